//! Connections: accepted up to a limit, with a bound on how long a client may keep one waiting, and shut down
//! gracefully.
//!
//! A connection waiting for its client, between requests or within a request's head, is closed after a while, so
//! silent clients can't use up the process's open files, which the database and the runs also need. The number of
//! connections is decided in [`places`](super::places). `request.rs` bounds how long a body may take. A response may
//! take long, but not indefinitely if its reader takes no bytes; its memory in the meantime is limited by
//! [`large`](super::large) and by the bound on what the system buffers.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::http::Extensions;
use axum::http::header::{CONNECTION, HeaderValue};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::own_task;
use super::places::{Place, Places, Terms, most_connections};
use super::spares::Spares;
use crate::service::is_out_of_files;

/// The address that a request's connection comes from: the client's own, or a proxy's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// The client's address, also behind trusted proxies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client(pub(super) IpAddr);

/// Without a connection, as in a test, the peer is this machine.
pub(super) fn peer_of(extensions: &Extensions) -> IpAddr {
    extensions.get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |peer| peer.0)
}

/// How long a client may take for the head of a request, counted from the end of the previous request.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// The same while there is no room: the reserve has few places.
const HEAD_PATIENCE_WITHOUT_ROOM: Duration = Duration::from_secs(5);
/// Maximum size of a request's head, in bytes; a larger one is answered with 431. Also how much of a body is
/// buffered.
const HEAD_BYTES: usize = 64 << 10;
/// How long a response's reader may take nothing: a person paging through a log may pause.
const READER_PATIENCE: Duration = Duration::from_mins(10);
/// How much of a response the system buffers while it can't send it. By default it buffers megabytes for each stalled
/// reader. Bytes already in flight are not counted, so this slows no reader down.
const UNSENT_BYTES: u32 = 128 << 10;
/// How long requests in flight may take to finish after shutdown was requested; `docker stop` kills after 10 s.
const END_PATIENCE: Duration = Duration::from_secs(8);
/// Delay before accepting is retried after it failed for a reason of the machine's.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);
/// The same if no file was left: one may be free soon.
const PAUSE_WITHOUT_FILES: Duration = Duration::from_millis(100);
/// How many of these delays pass before the last spare, which serves only health requests, is given up.
const TRIES_WITHOUT_FILES: u32 = 5;

/// Serves requests until `stop`, then accepts no more and returns once those in flight have finished.
pub async fn serve(listener: TcpListener, routes: Router, stop: CancellationToken) {
    let (mut places, mut spares) = (Places::of(most_connections()), Spares::new());
    let connections = TaskTracker::new();
    // Requests whose clients have disconnected; they are finished all the same.
    let requests = TaskTracker::new();
    let routes = own_task::wrap(routes, requests.clone());
    while let Some((stream, peer, place)) = stop.run_until_cancelled(accept(&listener, &mut places, &mut spares)).await
    {
        let (routes, stop) = (routes.clone(), stop.clone());
        connections.spawn(async move {
            answer(stream, Peer(peer), place.terms, routes, stop).await;
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    requests.close();
    if tokio::time::timeout(END_PATIENCE, requests.wait()).await.is_err() {
        tracing::warn!(requests = requests.len(), "requests were still being carried out when the server stopped");
    }
}

/// Serves the requests of one connection.
async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    terms: Terms,
    routes: Router,
    stop: CancellationToken,
) {
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(terms);
        let routes = routes.clone();
        async move {
            let mut response = routes.oneshot(request).await?;
            if terms != Terms::Ordinary {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(READER_PATIENCE));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(if terms == Terms::Ordinary { HEAD_PATIENCE } else { HEAD_PATIENCE_WITHOUT_ROOM })
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let mut connection = pin!(connection);
    let ended = match stop.run_until_cancelled(connection.as_mut()).await {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(END_PATIENCE, connection).await.unwrap_or_else(|_| {
                tracing::warn!("a request was still in flight when the server stopped, and was cut off");
                Ok(())
            })
        }
    };
    if let Err(error) = ended {
        // A client that disconnected, or that does not speak HTTP.
        tracing::debug!(error = &error as &dyn std::error::Error, "a connection ended early");
    }
}

/// Accepts the next connection and takes a place for it.
async fn accept(listener: &TcpListener, places: &mut Places, spares: &mut Spares) -> (TcpStream, IpAddr, Place) {
    let mut tries = 0;
    loop {
        places.until_there_is_one().await;
        match listener.accept().await {
            Ok((stream, peer)) => {
                if let Err(error) = set_up(&stream) {
                    tracing::debug!(%error, "a connection could not be set up as it should be");
                }
                let address = peer.ip().to_canonical();
                // If a spare is missing, this connection uses its file and must return it soon.
                let place = match (spares.fill(), spares.left()) {
                    (true, _) => places.take(address),
                    (false, 1..) => places.take(address).map(Place::for_one_request),
                    (false, 0) => places.take_reserve(address),
                };
                // Without a place, which takes one address with many connections, it is closed at once.
                if let Some(place) = place {
                    return (stream, address, place);
                }
            }
            Err(error) if is_clients_fault(&error) => {}
            Err(error) if is_out_of_files(&error) => {
                if spares.is_news() {
                    tracing::warn!(%error, "no file is left for further connections; each gets one answer, in turn");
                }
                if !((spares.left() > 1 || tries >= TRIES_WITHOUT_FILES) && spares.give_up_one()) {
                    tries += 1;
                    tokio::time::sleep(PAUSE_WITHOUT_FILES).await;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "connections can't be accepted now");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

fn set_up(stream: &TcpStream) -> io::Result<()> {
    // Otherwise a small piece of a followed log would wait until the client acknowledges the previous one.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
    // This also applies once the whole response is handed over and only the system is still sending it.
    socket.set_tcp_user_timeout(Some(READER_PATIENCE))
}

fn is_clients_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::Semaphore;
    use tokio::time::Instant;

    use super::*;

    fn connect(routes: Router, stop: &CancellationToken) -> (DuplexStream, tokio::task::JoinHandle<()>) {
        let (client, server) = duplex(64 * 1024);
        let peer = Peer([127, 0, 0, 1].into());
        (client, tokio::spawn(answer(server, peer, Terms::Ordinary, routes, stop.clone())))
    }

    /// Everything received until the connection is closed, and how long that takes.
    async fn read_to_end(client: &mut DuplexStream) -> (String, Duration) {
        let begun = Instant::now();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        (text, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_finishes_the_head_of_a_request_is_not_waited_for() {
        for begin in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: a"] {
            let (mut client, _) = connect(Router::new(), &CancellationToken::new());
            client.write_all(begin.as_bytes()).await.unwrap();
            let (_, waited) = read_to_end(&mut client).await;
            assert!(waited >= HEAD_PATIENCE && waited < 2 * HEAD_PATIENCE, "{begin:?}: {waited:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_changes_something_is_finished_when_its_client_hangs_up_and_one_that_reads_is_not() {
        let (begun, finished) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (has_begun, has_finished) = (Arc::clone(&begun), Arc::clone(&finished));
        let work = move || {
            let (begun, finished) = (Arc::clone(&has_begun), Arc::clone(&has_finished));
            async move {
                begun.add_permits(1);
                tokio::time::sleep(Duration::from_secs(5)).await;
                finished.add_permits(1);
            }
        };
        let routes = Router::new().route("/", get(work.clone()).delete(work.clone()).put(work.clone()).post(work));
        let requests = TaskTracker::new();
        let routes = own_task::wrap(routes, requests.clone());
        for (method, is_finished) in [("GET", false), ("DELETE", true), ("PUT", true), ("POST", true)] {
            let (mut client, connection) = connect(routes.clone(), &CancellationToken::new());
            client.write_all(format!("{method} / HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
            begun.acquire().await.unwrap().forget();
            drop(client);
            connection.await.unwrap();
            requests.close();
            requests.wait().await;
            assert_eq!(finished.available_permits(), usize::from(is_finished), "{method}");
            requests.reopen();
            while let Ok(permit) = finished.try_acquire() {
                permit.forget();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_further_request_is_closed() {
        let routes = Router::new().route("/", get(|| async { "hello" }));
        let (mut client, _) = connect(routes, &CancellationToken::new());
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let (text, waited) = read_to_end(&mut client).await;
        assert!(text.ends_with("hello"), "{text}");
        assert!(waited >= HEAD_PATIENCE && waited < 2 * HEAD_PATIENCE, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_of_its_answer_is_not_waited_for_and_a_slow_one_is() {
        let routes = Router::new().route("/", get(|| async { vec![b'x'; 1 << 20] }));
        let ask = || async {
            let (mut client, connection) = connect(routes.clone(), &CancellationToken::new());
            client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
            (client, connection)
        };
        let (_client, connection) = ask().await;
        let begun = Instant::now();
        connection.await.unwrap();
        let waited = begun.elapsed();
        assert!(waited >= READER_PATIENCE && waited < 2 * READER_PATIENCE, "{waited:?}");

        let (mut client, _connection) = ask().await;
        let (mut taken, mut part) = (0, vec![0; 64 << 10]);
        while let read @ 1.. = client.read(&mut part).await.unwrap() {
            taken += read;
            tokio::time::sleep(READER_PATIENCE / 2).await;
        }
        assert!(taken > 1 << 20, "{taken}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_takes_as_long_as_it_takes_until_the_server_stops() {
        let slow = |secs| get(move || async move { tokio::time::sleep(Duration::from_secs(secs)).await });
        let routes = Router::new().route("/slow", slow(3600)).route("/slower", slow(4000));
        let stop = CancellationToken::new();
        let (mut first, _) = connect(routes.clone(), &stop);
        let (mut second, _) = connect(routes.clone(), &stop);
        let (mut idle, _) = connect(routes, &stop);
        first.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        second.write_all(b"GET /slower HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let (text, waited) = read_to_end(&mut first).await;
        assert!(text.starts_with("HTTP/1.1 200 ") && waited >= Duration::from_hours(1), "{waited:?}: {text}");
        assert_eq!(read_to_end(&mut idle).await.0, "");

        stop.cancel();
        let (text, waited) = read_to_end(&mut second).await;
        assert_eq!(text, "", "it is cut off");
        assert!(waited >= END_PATIENCE && waited < 2 * END_PATIENCE, "{waited:?}");
    }
}
