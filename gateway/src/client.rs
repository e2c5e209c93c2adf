//! The client's side of the API: one request over a Unix socket.

use std::path::Path;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::Error;

/// Asks the gateway behind `socket` for `path` and returns the JSON.
///
/// # Errors
/// [`Error::Unreachable`] if nobody answers, [`Error::Answer`] if the answer is an error.
pub async fn get(socket: &Path, path: &str) -> Result<serde_json::Value, Error> {
    request(socket, Method::GET, path).await
}

/// Has the gateway behind `socket` do what `path` says and returns the JSON.
///
/// # Errors
/// As [`get`].
pub async fn post(socket: &Path, path: &str) -> Result<serde_json::Value, Error> {
    request(socket, Method::POST, path).await
}

async fn request(socket: &Path, method: Method, path: &str) -> Result<serde_json::Value, Error> {
    let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| Error::Unreachable {
        path: socket.to_owned(),
        source,
    };
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| unreachable(error.into()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unreachable(error.into()))?;
    let driver = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(hyper::header::HOST, "turnpiked")
        .body(Empty::<Bytes>::new())
        .map_err(|error| unreachable(error.into()))?;
    let answer = sender
        .send_request(request)
        .await
        .map_err(|error| unreachable(error.into()))?;
    let status = answer.status();
    let body = answer
        .into_body()
        .collect()
        .await
        .map_err(|error| unreachable(error.into()))?
        .to_bytes();
    driver.abort();
    if status != StatusCode::OK {
        let text = String::from_utf8_lossy(&body).into_owned();
        return Err(Error::Answer {
            status: status.as_u16(),
            text,
        });
    }
    serde_json::from_slice(&body).map_err(|error| unreachable(error.into()))
}
