//! A client of `corewire.v1`.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::Client;

const V1: &str = "Sec-WebSocket-Protocol: corewire.v1\r\n";

/// A connection on which nothing was said yet.
#[track_caller]
pub fn open(addr: SocketAddr) -> Client {
    open_on(Client::tcp(addr))
}

#[track_caller]
pub fn open_on(mut client: Client) -> Client {
    assert_eq!(client.ask("/ws", V1).status, 101);
    client
}

/// Says something, and gets the next message.
#[track_caller]
pub fn ask(client: &mut Client, message: Value) -> Value {
    client.send_text(&message.to_string());
    hear(client)
}

#[track_caller]
pub fn hear(client: &mut Client) -> Value {
    serde_json::from_str(&client.text()).expect("JSON")
}

#[track_caller]
pub fn connect(client: &mut Client, token: &str) -> Value {
    ask(client, json!({"type": "connect", "id": 1, "token": token}))
}

#[track_caller]
pub fn ping(client: &mut Client) -> Value {
    ask(client, json!({"type": "ping", "id": 5}))
}

#[track_caller]
pub fn subscribe(client: &mut Client, topic: &str) -> Value {
    ask(client, json!({"type": "subscribe", "id": 2, "topic": topic}))
}

#[track_caller]
pub fn publish(client: &mut Client, topic: &str, data: Value) -> Value {
    ask(client, json!({"type": "publish", "id": 3, "topic": topic, "data": data}))
}

#[track_caller]
pub fn is_ack(answer: &Value) {
    assert_eq!(answer["type"], "ack", "{answer}");
}

#[track_caller]
pub fn is_error(answer: &Value, code: &str, says: &str) {
    assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!(code)), "{answer}");
    assert!(answer["message"].as_str().expect("a sentence").contains(says), "{answer}");
}
