//! A proxy that spoils what a real source answers: on demand, for some of the requests.
//!
//! One connection for each request, answers passed on as they are unless a fault was ordered for a
//! text that the request has. What the source itself would never say is made up here.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Largest request, and largest answer that is passed on, bytes.
const MESSAGE_SIZE_MAX: usize = 16 << 20;
/// Longest time that an answer is held back.
const HELD_MAX: Duration = Duration::from_mins(2);
/// Series of a flood; the reader has had enough long before the last one.
const FLOOD_SERIES: usize = 10_000_000;

/// What becomes of an answer.
#[derive(Debug, Clone)]
pub enum SourceFault {
    /// It comes when the fault is mended.
    Hold,
    /// It comes this much later.
    Delay(Duration),
    /// The connection is reset before a byte of it is sent.
    Reset,
    /// The connection is reset in the middle.
    ResetWithin,
    /// The connection ends in the middle, the length was promised.
    Cut,
    /// The same without a length: chunks without a last one.
    CutChunks,
    /// The first half, and it is said to be all.
    Half,
    /// A head without an end.
    EndlessHead,
    /// Another one: status, a line for the head, body.
    Instead(u16, &'static str, Vec<u8>),
    /// An element of a list stands there twice.
    Twice(Element),
    /// The same, and the second time the value that the pointer leads to is another one.
    TwiceBut(Element, &'static str, Value),
    /// The value that the pointer leads to in an element is another one.
    Value(Element, &'static str, Value),
    /// A vector with ten million series of one scope.
    Flood { scope: String },
}

/// The first element of the list that the pointer leads to which has the text.
#[derive(Debug, Clone)]
pub struct Element {
    pub list: &'static str,
    pub having: String,
}

/// A proxy with orders.
#[derive(Debug)]
pub struct Spoiler {
    pub url: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Host and port of the source.
    source: String,
    orders: Mutex<Vec<Order>>,
}

/// What is done to whose answers.
#[derive(Debug, Clone)]
pub struct Order {
    /// All of them stand in the request, decoded.
    texts: Vec<String>,
    fault: SourceFault,
    /// Requests that it was carried out on.
    count: usize,
}

impl Spoiler {
    /// In front of a server with this address.
    pub fn start(source: &str) -> Spoiler {
        let source = source.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let shared = Arc::new(Shared { source, orders: Mutex::default() });
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&served);
                // A client that goes away is its own business.
                thread::spawn(move || drop(serve(&shared, client)));
            }
        });
        Spoiler { url, shared }
    }

    /// These orders and no others hold from now on; how many answers the old ones have spoiled.
    pub fn order(&self, orders: Vec<Order>) -> usize {
        let old = std::mem::replace(&mut *self.shared.lock(), orders);
        old.iter().map(|order| order.count).sum()
    }

    pub fn mend(&self) -> usize {
        self.order(Vec::new())
    }
}

impl Order {
    /// For every request that has all these texts.
    pub fn new(texts: &[&str], fault: SourceFault) -> Order {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        Order { texts, fault, count: 0 }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Order>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault_for(&self, request: &str) -> Option<SourceFault> {
        let mut orders = self.lock();
        let is_meant = |order: &&mut Order| order.texts.iter().all(|text| request.contains(text));
        let order = orders.iter_mut().find(is_meant)?;
        order.count += 1;
        Some(order.fault.clone())
    }

    fn is_ordered(&self, request: &str) -> bool {
        self.lock().iter().any(|order| order.texts.iter().all(|text| request.contains(text)))
    }
}

fn serve(shared: &Shared, mut client: TcpStream) -> io::Result<()> {
    let (head, body) = read_message(&mut client)?;
    let text = decoded(&head) + "\n" + &decoded(&body);
    let fault = shared.fault_for(&text);
    match &fault {
        Some(SourceFault::Reset) => return reset(&client),
        Some(SourceFault::Hold) => {
            let begin = Instant::now();
            while shared.is_ordered(&text) && begin.elapsed() < HELD_MAX {
                thread::sleep(Duration::from_millis(20));
            }
        }
        Some(SourceFault::Delay(time)) => thread::sleep(*time),
        Some(SourceFault::Instead(status, line, body)) => {
            return client.write_all(&message(*status, line, body));
        }
        Some(SourceFault::Flood { scope }) => return flood(&mut client, scope),
        Some(SourceFault::EndlessHead) => return endless_head(&mut client),
        _ => {}
    }
    let answer = ask(shared, &head, &body)?;
    match fault {
        Some(fault) => spoil(client, &answer, &fault),
        None => client.write_all(&answer),
    }
}

/// The whole answer of the source.
fn ask(shared: &Shared, head: &[u8], body: &[u8]) -> io::Result<Vec<u8>> {
    let mut source = TcpStream::connect(&shared.source)?;
    // The connection ends with the answer, so nobody needs to count its bytes.
    let head = String::from_utf8_lossy(head);
    let mut lines = head.lines();
    let first = lines.next().unwrap_or_default();
    let kept = lines.filter(|line| {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        !line.is_empty() && !["connection", "accept-encoding"].contains(&name.as_str())
    });
    let kept: Vec<&str> = kept.collect();
    let head = format!("{first}\r\n{}\r\nConnection: close\r\n\r\n", kept.join("\r\n"));
    source.write_all(head.as_bytes())?;
    source.write_all(body)?;
    let mut answer = Vec::new();
    source.take(MESSAGE_SIZE_MAX as u64).read_to_end(&mut answer)?;
    Ok(answer)
}

fn spoil(mut client: TcpStream, answer: &[u8], fault: &SourceFault) -> io::Result<()> {
    let body = body_of(answer);
    let whole = |body: &[u8]| message(200, "", body);
    match fault {
        SourceFault::Cut | SourceFault::ResetWithin => {
            let head = whole(&body).len() - body.len();
            client.write_all(&whole(&body)[..head + body.len() / 2])?;
            client.flush()?;
            if matches!(fault, SourceFault::ResetWithin) {
                // What is on its way must not be overtaken.
                thread::sleep(Duration::from_millis(50));
                return reset(&client);
            }
            Ok(())
        }
        SourceFault::CutChunks => {
            let half = &body[..body.len() / 2];
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            client.write_all(format!("{head}{:x}\r\n", half.len()).as_bytes())?;
            client.write_all(half)?;
            client.write_all(b"\r\n")
        }
        SourceFault::Half => client.write_all(&whole(&body[..body.len() / 2])),
        SourceFault::Twice(element) => client.write_all(&whole(&twice(&body, element, None))),
        SourceFault::TwiceBut(element, pointer, value) => {
            client.write_all(&whole(&twice(&body, element, Some((pointer, value)))))
        }
        SourceFault::Value(element, pointer, value) => {
            let mut document = document(&body);
            let elements = elements(&mut document, element.list);
            let place = place_of(elements, &element.having);
            set(&mut elements[place], pointer, value);
            client.write_all(&whole(&text_of(&document)))
        }
        _ => client.write_all(answer),
    }
}

fn twice(body: &[u8], element: &Element, change: Option<(&str, &Value)>) -> Vec<u8> {
    let mut document = document(body);
    let elements = elements(&mut document, element.list);
    let mut copy = elements[place_of(elements, &element.having)].clone();
    if let Some((pointer, value)) = change {
        set(&mut copy, pointer, value);
    }
    elements.push(copy);
    text_of(&document)
}

fn set(element: &mut Value, pointer: &str, value: &Value) {
    let found = element.pointer_mut(pointer);
    found.unwrap_or_else(|| panic!("no {pointer}")).clone_from(value);
}

/// What JSON has no number for is said as a text `bare NaN bare`.
fn text_of(document: &Value) -> Vec<u8> {
    document.to_string().replace("\"bare ", "").replace(" bare\"", "").into_bytes()
}

fn document(body: &[u8]) -> Value {
    let shown = || String::from_utf8_lossy(body);
    serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error}: {}", shown()))
}

fn elements<'d>(document: &'d mut Value, list: &str) -> &'d mut Vec<Value> {
    let found = document.pointer_mut(list).and_then(Value::as_array_mut);
    found.unwrap_or_else(|| panic!("no list at `{list}`"))
}

fn place_of(elements: &[Value], having: &str) -> usize {
    let place = elements.iter().position(|element| element.to_string().contains(having));
    place.unwrap_or_else(|| panic!("nothing with `{having}` in {} elements", elements.len()))
}

fn message(status: u16, line: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{line}Content-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Made as it is sent, until the reader goes away.
fn flood(client: &mut TcpStream, scope: &str) -> io::Result<()> {
    client.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")?;
    client.write_all(br#"{"status":"success","data":{"resultType":"vector","result":["#)?;
    let mut text = String::new();
    for number in 0..FLOOD_SERIES {
        let comma = if number == 0 { "" } else { "," };
        text.push_str(&format!(
            r#"{comma}{{"metric":{{"project_id":"{scope}","id":"r-{number}"}},"value":[0,"1"]}}"#
        ));
        if text.len() > 1 << 20 {
            client.write_all(text.as_bytes())?;
            text.clear();
        }
    }
    client.write_all(text.as_bytes())?;
    client.write_all(b"]}}")
}

fn endless_head(client: &mut TcpStream) -> io::Result<()> {
    client.write_all(b"HTTP/1.1 200 OK\r\n")?;
    for number in 0.. {
        client.write_all(format!("X-{number}: {}\r\n", "x".repeat(1000)).as_bytes())?;
    }
    Ok(())
}

/// With data unsent or not: the other side sees an error, not an end.
fn reset(client: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(client).set_linger(Some(Duration::ZERO))
}

/// Head and body.
fn read_message(stream: &mut TcpStream) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut part = vec![0; 64 << 10];
    loop {
        let size = stream.read(&mut part)?;
        bytes.extend_from_slice(&part[..size]);
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = end.map(|end| end + 4) {
            let length = length_of(&bytes[..end]);
            if bytes.len() >= end + length || size == 0 {
                let body = bytes.split_off(end);
                return Ok((bytes, body));
            }
        }
        if size == 0 || bytes.len() > MESSAGE_SIZE_MAX {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let mut found = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
    found.next().map(|(_, value)| value.trim())
}

fn length_of(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head);
    header(&head, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// Of a whole answer, chunks put together.
fn body_of(answer: &[u8]) -> Vec<u8> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.expect("the source answers HTTP") + 4;
    let head = String::from_utf8_lossy(&answer[..end]);
    let mut rest = &answer[end..];
    if !header(&head, "transfer-encoding").is_some_and(|value| value.contains("chunked")) {
        return rest.to_vec();
    }
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = String::from_utf8_lossy(&rest[..line]);
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        body.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 2 + size + 2..];
    }
    body
}

/// Of a form or an address: `%7B` and `+`.
fn decoded(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match (first, hex.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(byte)) => {
                text.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) => {
                text.push(b' ');
                rest = tail;
            }
            _ => {
                text.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}
