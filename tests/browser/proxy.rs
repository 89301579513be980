//! A proxy between the browser and the server, such as fails in the ways that networks do.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Everything goes through.
    Open,
    /// Each request is answered with 502; connections that were open are cut.
    BadGateway,
    /// Each request is answered with 200 and a page of the proxy's own.
    OtherPage,
    /// Connections are cut, and new ones at once.
    Cut,
    /// Nothing goes through and nothing is said. What was open then stays dead for good.
    Silent,
}

pub struct Proxy {
    pub url: String,
    way: watch::Sender<Way>,
}

impl Proxy {
    pub async fn start(server: &str) -> Self {
        let target: SocketAddr = server.trim_start_matches("http://").parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (way, seen) = watch::channel(Way::Open);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, target, seen.clone()));
            }
        });
        Self { url, way }
    }

    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

async fn serve(mut client: TcpStream, target: SocketAddr, mut way: watch::Receiver<Way>) {
    let now = *way.borrow_and_update();
    match now {
        Way::Open => {}
        Way::BadGateway => return answer(client, "502 Bad Gateway").await,
        Way::OtherPage => return answer(client, "200 OK").await,
        Way::Cut => return,
        Way::Silent => return stay_silent(client).await,
    }
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let changed = tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
        changed = way.changed() => changed,
    };
    if changed.is_ok() && *way.borrow() == Way::Silent {
        stay_silent(client).await;
    }
}

/// Until the browser gives it up.
async fn stay_silent(mut client: TcpStream) {
    let mut swallowed = [0; 4096];
    while matches!(client.read(&mut swallowed).await, Ok(1..)) {}
}

async fn answer(mut client: TcpStream, status: &str) {
    let mut request: Vec<u8> = Vec::new();
    let mut bytes = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match tokio::time::timeout(Duration::from_secs(5), client.read(&mut bytes)).await {
            Ok(Ok(read @ 1..)) => request.extend(&bytes[..read]),
            _ => return,
        }
    }
    let page = "<!doctype html><title>proxy</title><h1>Something is wrong</h1>";
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        page.len()
    );
    let _ = client.write_all(format!("{head}{page}").as_bytes()).await;
    let _ = client.shutdown().await;
}
