//! The Docker engine against a real daemon: the one that FLOTILLA_TEST_DOCKER names, and for what must not be done to a
//! shared one (ending it, a registry of its own) daemons that a test starts itself.

mod daemon;
mod images;
mod lifecycle;
mod output;
mod outside;
mod restart;
mod world;
