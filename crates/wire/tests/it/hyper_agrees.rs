//! Claim: of what is taken here, hyper makes the same requests. Two programs that count differently
//! are what request smuggling needs.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use selvedge_wire::Limits;
use selvedge_wire::http1::{Decoder, Event, Start};
use tokio::io::AsyncWriteExt;

use crate::pieces::pieces;

/// A request as far as both tell: method, target, fields in any order, body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    method: String,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// What we make of it, and how many bytes that took: those of whole requests, up to one that ends the
/// connection.
fn ours(bytes: &[u8]) -> (Vec<Seen>, usize) {
    let mut decoder = Decoder::requests(Limits::default());
    let (mut whole, mut current) = (Vec::new(), Seen::default());
    let (mut at, mut taken, mut keeps) = (0, 0, true);
    while let Ok(step) = decoder.step(&bytes[at..]) {
        let input = &bytes[at..];
        match &step.event {
            Some(Event::Head) => {
                let message = decoder.message(input, &step);
                let Start::Request { method, .. } = message.start() else {
                    unreachable!("this decoder reads requests")
                };
                keeps = message.keeps_connection();
                current.method = String::from_utf8_lossy(method).into_owned();
                let fields = message.fields().map(|field| {
                    let name = String::from_utf8_lossy(field.name).to_lowercase();
                    (name, field.value.to_vec())
                });
                current.fields = fields.collect();
                current.fields.sort();
            }
            Some(Event::Data(range)) => current.body.extend_from_slice(&input[range.clone()]),
            Some(Event::Trailers) => {}
            Some(Event::End) => {
                whole.push(std::mem::take(&mut current));
                taken = at + step.consumed;
                if !keeps {
                    break;
                }
            }
            None => break,
        }
        at += step.consumed;
    }
    (whole, taken)
}

/// What hyper makes of it, and whether it was content to the end.
fn hypers(bytes: &[u8]) -> (Vec<Seen>, bool) {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let note = seen.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let note = note.clone();
        async move {
            let (head, body) = request.into_parts();
            let fields = head.headers.iter().map(|(name, value)| {
                let name = name.as_str().to_owned();
                (name, value.as_bytes().to_vec())
            });
            let mut fields: Vec<_> = fields.collect();
            fields.sort();
            if let Ok(body) = body.collect().await {
                note.borrow_mut().push(Seen {
                    method: head.method.to_string(),
                    fields,
                    body: body.to_bytes().to_vec(),
                });
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let content = runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let served = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(server), service);
        served.await.is_ok()
    });
    (seen.take(), content)
}

/// What the two disagree about. Hyper may refuse what we take, but never count differently.
fn dispute(bytes: &[u8]) -> Option<String> {
    let (ours, taken) = ours(bytes);
    let (hypers, content) = hypers(&bytes[..taken]);
    let agreed = match content {
        true => ours == hypers,
        false => ours.starts_with(&hypers),
    };
    (!agreed).then(|| {
        let bytes = bytes[..taken].escape_ascii();
        format!("{bytes}\nours {ours:#?}\nhyper {content} {hypers:#?}")
    })
}

#[test]
fn hyper_reads_the_same_requests() {
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nHost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
        b"\r\nGET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    ] {
        assert_eq!(ours(bytes).1, bytes.len(), "{}", bytes.escape_ascii());
        assert!(hypers(bytes).1, "{}", bytes.escape_ascii());
        assert_eq!(dispute(bytes), None);
    }
}

proptest! {
    #[test]
    fn hyper_never_counts_differently(bytes in pieces()) {
        prop_assert_eq!(dispute(&bytes), None);
    }
}
