//! The client's side of the API: one request over a Unix socket.

use std::io::Write;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
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
    let body = ask(socket, method, path).await?.into_body();
    let body = body.collect().await.map_err(|error| unreachable(socket, error))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| unreachable(socket, error))
}

/// Asks the gateway behind `socket` for `path` and writes the answer to `file`: all of it, or nothing.
///
/// # Errors
/// As [`get`], and [`Error::File`].
pub async fn download(socket: &Path, path: &str, file: &Path) -> Result<u64, Error> {
    let failed = |source| Error::File {
        path: file.to_owned(),
        source,
    };
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.map_or_else(|| PathBuf::from("."), Path::to_owned);
    let mut body = ask(socket, Method::GET, path).await?.into_body();
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    let mut part = tempfile::Builder::new()
        .permissions(readable)
        .tempfile_in(&folder)
        .map_err(failed)?;
    let mut written = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| unreachable(socket, error))?;
        if let Some(piece) = frame.data_ref() {
            part.write_all(piece).map_err(failed)?;
            written += piece.len() as u64;
        }
    }
    part.as_file().sync_all().map_err(failed)?;
    part.persist(file).map_err(|error| failed(error.error))?;
    std::fs::File::open(&folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed)?;
    Ok(written)
}

fn unreachable(socket: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Unreachable {
        path: socket.to_owned(),
        source: source.into(),
    }
}

async fn ask(socket: &Path, method: Method, path: &str) -> Result<Response<Incoming>, Error> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| unreachable(socket, error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unreachable(socket, error))?;
    // Ends with the connection, or with the program.
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(hyper::header::HOST, "turnpiked")
        .body(Empty::<Bytes>::new())
        .map_err(|error| unreachable(socket, error))?;
    let answer = sender
        .send_request(request)
        .await
        .map_err(|error| unreachable(socket, error))?;
    let status = answer.status();
    if status == StatusCode::OK {
        return Ok(answer);
    }
    let body = answer.into_body().collect().await;
    let body = body.map_err(|error| unreachable(socket, error))?.to_bytes();
    Err(Error::Answer {
        status: status.as_u16(),
        text: String::from_utf8_lossy(&body).into_owned(),
    })
}
