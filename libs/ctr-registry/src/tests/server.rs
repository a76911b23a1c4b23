// SPDX-License-Identifier: Apache-2.0
//! An HTTP server for tests: answers each request as a closure says, truthfully or not.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A request that has arrived.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) body: String,
    headers: Vec<(String, String)>,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// How a body ends.
#[derive(Clone, Copy)]
enum End {
    /// As announced.
    Properly,
    /// The connection is closed after this many bytes.
    CutAfter(usize),
    /// Zeros follow for as long as the client reads.
    Never,
    /// After this many bytes nothing comes, and the connection stays open.
    SilentAfter(usize),
}

/// An answer.
pub(super) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    end: End,
}

impl Reply {
    pub(super) fn ok(body: impl AsRef<[u8]>) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.as_ref().to_vec(), end: End::Properly }
    }

    pub(super) fn empty(status: u16) -> Self {
        Self::ok("").status(status)
    }

    pub(super) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn cut_after(mut self, bytes: usize) -> Self {
        self.end = End::CutAfter(bytes);
        self
    }

    pub(super) fn never_ending(mut self) -> Self {
        self.end = End::Never;
        self
    }

    pub(super) fn silent_after(mut self, bytes: usize) -> Self {
        self.end = End::SilentAfter(bytes);
        self
    }

    fn write_to(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !matches!(self.end, End::Never) {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        write!(stream, "{head}\r\n")?;
        match self.end {
            End::Properly => stream.write_all(&self.body),
            End::CutAfter(bytes) => stream.write_all(&self.body[..bytes]),
            End::Never => {
                stream.write_all(&self.body)?;
                loop {
                    stream.write_all(&[0; 4096])?;
                }
            }
            End::SilentAfter(bytes) => {
                stream.write_all(&self.body[..bytes])?;
                // Until the client hangs up.
                stream.read_to_end(&mut Vec::new()).map(drop)
            }
        }
    }
}

type Handler = dyn Fn(&Seen) -> Reply + Send + Sync;

/// A server on a loopback port of its own, until it is dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    stopping: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let handler: Arc<Handler> = Arc::new(handler);
        let (seen, stopping) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let accepting = {
            let (seen, stopping) = (seen.clone(), stopping.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    if stopping.load(Ordering::SeqCst) {
                        return;
                    }
                    let (handler, seen) = (handler.clone(), seen.clone());
                    std::thread::spawn(move || answer(stream.unwrap(), &*handler, &seen));
                }
            })
        };
        Self { address, seen, stopping, accepting: Some(accepting) }
    }

    /// The requests so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.accepting.take().unwrap().join();
    }
}

fn answer(mut stream: TcpStream, handler: &Handler, seen: &Mutex<Vec<Seen>>) {
    let Some(request) = read_request(&stream) else { return };
    seen.lock().unwrap().push(request.clone());
    // The client may hang up at any time; that is no failure of the server.
    let _ = handler(&request).write_to(&mut stream);
}

fn read_request(stream: &TcpStream) -> Option<Seen> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim().split_once(':') {
            Some((name, value)) => headers.push((name.trim().to_owned(), value.trim().to_owned())),
            None => break,
        }
    }
    let mut request = Seen { method, target, body: String::new(), headers };
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    reader.take(length).read_to_string(&mut request.body).ok()?;
    Some(request)
}
