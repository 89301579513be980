//! The local engine: a run is a process on the server's machine.
