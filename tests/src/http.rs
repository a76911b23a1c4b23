// SPDX-License-Identifier: Apache-2.0
//! As much of an HTTP/1.1 server as a registry for tests needs: requests without bodies.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// A request that was received.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET` or `HEAD`.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// What follows the question mark.
    pub query: String,
    /// The headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// The value of a header, named in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A response with its whole body.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.retain(|(key, _)| key != name);
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn body(self, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self.header("Content-Type", media_type) }
    }

    /// The status line and headers; `length` is what Content-Length claims, `None` for a chunked body.
    pub(crate) fn head(&self, length: Option<usize>) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} Status\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        match length {
            Some(length) => head += &format!("Content-Length: {length}\r\n\r\n"),
            None => head += "Transfer-Encoding: chunked\r\n\r\n",
        }
        head.into_bytes()
    }
}

/// One connection: requests in.
pub(crate) struct Connection {
    input: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { input: BufReader::new(stream) }
    }

    /// The stream to answer on.
    pub(crate) fn output(&mut self) -> &mut TcpStream {
        self.input.get_mut()
    }

    /// The next request, or `None` when the client has closed.
    pub(crate) fn request(&mut self) -> io::Result<Option<Request>> {
        // A TLS handshake has no lines to wait for: who tries https first must soon learn that it is http.
        if self.input.fill_buf()?.first() == Some(&0x16) {
            return Ok(None);
        }
        let line = self.line()?;
        let mut words = line.split(' ');
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Some(Request { method: method.to_owned(), path: path.to_owned(), query: query.to_owned(), headers }))
    }

    /// Writes a whole response; a HEAD request gets no body.
    pub(crate) fn respond(&mut self, request: &Request, response: &Response) -> io::Result<()> {
        let mut bytes = response.head(Some(response.body.len()));
        if request.method != "HEAD" {
            bytes.extend(&response.body);
        }
        self.output().write_all(&bytes)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.input.by_ref().take(64 << 10).read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}
