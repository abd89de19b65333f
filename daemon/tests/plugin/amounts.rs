//! How much the daemon holds for a plugin, whatever it asks for.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread;

use rated::plugin::{Module, PluginConfig, PluginHost};
use rated_plugin::Status;
use serde_json::json;

use crate::apart::{config, faults_with, here, module, plugins_dir};
use crate::fixture::build_faults;
use crate::support::{World, get};

/// What the process may take.
const MEMORY: u64 = 64 << 20;
/// Answers of a server: eight of them are more.
const BODY: usize = 12 << 20;
const FETCHES: usize = 8;

/// The module `one` in a process, which knows where the server is.
fn start(world: &World, server: SocketAddr) -> (PluginHost, Module) {
    let config = PluginConfig { process_memory_bytes: MEMORY, ..config(world) };
    faults_with(world, config, &json!({"url": format!("http://{server}/")}))
}

/// It may ask for no more than it could have in its own memory.
#[test]
fn one_that_asks_for_much_past_its_runner_is_killed() {
    let world = World::new();
    // It never accepts.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (_host, one) = start(&world, server.local_addr().unwrap());

    world.wait(async {
        let failure = get(&one, "/ask-for-much").await.unwrap_err();

        assert_eq!(failure.status(), Status::Panic, "{failure}");
        let why = "its process was killed: it asks for too much at once";
        assert!(failure.to_string().contains(why), "{failure}");
        assert_eq!(get(&one, "/fine").await.unwrap().status, 200);
    });
}

/// Answers all but the last byte of every body, and hangs up when one of those who ask does.
fn serve_all_but_the_end() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (sender, hung_up) = mpsc::channel();
        let mut connections = Vec::new();
        for connection in listener.incoming().take(FETCHES) {
            let mut connection = connection.unwrap();
            connections.push(connection.try_clone().unwrap());
            let sender = sender.clone();
            thread::spawn(move || {
                let mut asked = Vec::new();
                while !asked.ends_with(b"\r\n\r\n") {
                    let mut part = [0; 1024];
                    let length = connection.read(&mut part).unwrap();
                    asked.extend_from_slice(&part[..length]);
                }
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n");
                // Who is refused reads no more; nor does it ask anything else.
                let _ = connection.write_all(head.as_bytes());
                let _ = connection.write_all(&vec![b'x'; BODY - 1]);
                let _ = connection.read_to_end(&mut Vec::new());
                sender.send(()).unwrap();
            });
        }
        hung_up.recv().unwrap();
        for connection in connections {
            let _ = connection.shutdown(Shutdown::Both);
        }
        // Until all have told.
        drop(sender);
        while hung_up.recv().is_ok() {}
    });
    address
}

#[test]
fn what_is_fetched_at_a_time_is_no_more_than_the_process_may_take() {
    let world = World::new();
    let (_host, one) = start(&world, serve_all_but_the_end());

    let answer = world.wait(get(&one, "/fetch-at-once")).unwrap();

    let refused: usize = String::from_utf8(answer.body).unwrap().parse().unwrap();
    assert!((1..FETCHES).contains(&refused), "{refused}");
    assert_eq!(world.wait(get(&one, "/fine")).unwrap().status, 200);
    let deaths = "rated_plugin_process_deaths_total{instance=\"rating/one\"}";
    assert_eq!(world.metric(deaths), "0");
}

/// Never freed, so there is one for all of them.
#[test]
fn an_instance_that_is_made_anew_has_the_same_host() {
    let world = World::new();
    build_faults(&plugins_dir(&world).join("libfaults.so"), &[]);
    let mut config = config(&world);
    config.rating.insert("one".to_owned(), here("faults"));
    let host = PluginHost::start(config, world.services()).unwrap();
    let one = module(&host.generation(), "one").clone();

    world.wait(async {
        let before = get(&one, "/host").await.unwrap().body;
        get(&one, "/panic").await.unwrap_err();
        assert_eq!(get(&one, "/host").await.unwrap().body, before);
    });
}
