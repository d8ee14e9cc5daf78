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
use tokio::io::AsyncWriteExt;

use crate::pieces::pieces;
use crate::seen::{SOUND, Seen, dispute};

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

#[test]
fn hyper_reads_the_same_requests() {
    for bytes in SOUND {
        let hypers = hypers(bytes);
        assert!(hypers.1, "{}", bytes.escape_ascii());
        assert_eq!(dispute(bytes, |_| hypers.clone()), None);
    }
}

proptest! {
    #[test]
    fn hyper_never_counts_differently(bytes in pieces()) {
        prop_assert_eq!(dispute(&bytes, hypers), None);
    }
}
