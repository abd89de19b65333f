//! A server on the loopback interface that misbehaves on demand: what a broken source looks like.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// What the server does with each connection.
#[derive(Debug, Clone)]
pub enum Misbehaviour {
    /// This status and this body.
    Answer(u16, String),
    /// Promises a longer body than it sends, then closes.
    HalfOf(String),
    /// Closes without a word.
    Silence,
    /// Reads the request and never answers.
    Hang,
}

#[derive(Debug)]
pub struct FakeSource {
    pub url: String,
    manner: Arc<Mutex<Misbehaviour>>,
}

impl FakeSource {
    pub fn start(manner: Misbehaviour) -> FakeSource {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let manner = Arc::new(Mutex::new(manner));
        let shared = Arc::clone(&manner);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let manner = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
                thread::spawn(move || answer(stream, &manner));
            }
        });
        FakeSource { url, manner }
    }

    pub fn set(&self, manner: Misbehaviour) {
        *self.manner.lock().unwrap_or_else(PoisonError::into_inner) = manner;
    }
}

fn answer(mut stream: TcpStream, manner: &Misbehaviour) {
    let mut request = vec![0; 65536];
    // A client that went away is its own business.
    let _ = stream.read(&mut request);
    let head = |status: u16, length: usize| {
        format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n"
        )
    };
    let text = match manner {
        Misbehaviour::Answer(status, body) => head(*status, body.len()) + body,
        Misbehaviour::HalfOf(body) => head(200, body.len()) + &body[..body.len() / 2],
        Misbehaviour::Silence => return,
        Misbehaviour::Hang => {
            thread::sleep(Duration::from_hours(1));
            return;
        }
    };
    let _ = stream.write_all(text.as_bytes());
}
