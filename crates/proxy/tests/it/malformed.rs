//! Claim: whatever is wrong with a message, it is answered or dropped as `respond` documents, and
//! never brings the resolver down. Shown by a table, and by damaging good messages at random.

use proptest::collection::vec;
use proptest::prelude::*;
use selvedge_feed::Counter;
use selvedge_proxy::Origin;
use selvedge_proxy::dns::{Action, Transport, respond};

use crate::answers::{SHOPPER, table};
use crate::dialect::{A, describe, edns_query, query};

fn respond_to(message: &[u8], known: bool) -> (Action, Vec<u8>) {
    let mut out = Vec::new();
    let origin = known.then(|| Origin {
        server: "192.0.2.53:53".parse().unwrap(),
        workload: SHOPPER,
    });
    let action = respond(&table(), message, origin, Transport::Udp, &mut out);
    (action, out)
}

fn changed(message: &[u8], changes: &[(usize, u8)]) -> Vec<u8> {
    let mut message = message.to_vec();
    for (place, byte) in changes {
        message[*place] = *byte;
    }
    message
}

fn with(message: &[u8], more: &[u8], additional: u8) -> Vec<u8> {
    let mut message = [message, more].concat();
    message[11] = additional;
    message
}

#[test]
fn what_is_no_query_is_dropped() {
    let good = query(7, "cart", A);
    for message in [&[][..], &good[..11], &changed(&good, &[(2, 0x80)])] {
        assert_eq!(respond_to(message, true).0, Action::Drop, "{message:?}");
        assert_eq!(respond_to(message, false).0, Action::Drop, "{message:?}");
    }
}

#[test]
fn what_cannot_be_read_is_answered_so() {
    const FORMERR: &str = "rcode 1 rd ra";
    const NOTIMP: &str = "rcode 4 rd ra";
    let good = query(7, "cart", A);
    let end = good.len();
    let opt = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    let bad_option = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4, 0, 10, 0, 9];
    let cases: &[(&str, Vec<u8>, &str)] = &[
        ("no question", changed(&good[..12], &[(5, 0)]), FORMERR),
        ("a question that is not there", good[..12].to_vec(), FORMERR),
        ("two questions", changed(&good, &[(5, 2)]), FORMERR),
        (
            "65535 questions",
            changed(&good, &[(4, 255), (5, 255)]),
            FORMERR,
        ),
        ("a name cut short", good[..15].to_vec(), FORMERR),
        ("no type", good[..end - 4].to_vec(), FORMERR),
        ("half a class", good[..end - 1].to_vec(), FORMERR),
        ("a label of 64 bytes", changed(&good, &[(12, 64)]), FORMERR),
        (
            "a label of an old kind",
            changed(&good, &[(12, 0x80)]),
            FORMERR,
        ),
        (
            "a pointer to itself",
            changed(&good, &[(12, 0xc0), (13, 12)]),
            FORMERR,
        ),
        (
            "a pointer into the header",
            changed(&good, &[(12, 0xc0), (13, 0)]),
            FORMERR,
        ),
        ("a byte too many", with(&good, &[0], 0), FORMERR),
        ("a record that is not there", with(&good, &[], 1), FORMERR),
        ("half an OPT", with(&good, &opt[..9], 1), FORMERR),
        ("two OPT", with(&good, &[opt, opt].concat(), 2), FORMERR),
        (
            "an OPT with a name",
            with(&good, &[&[1, b'a'], &opt[..]].concat(), 1),
            FORMERR,
        ),
        (
            "an option beyond its record",
            with(&good, &bad_option, 1),
            FORMERR,
        ),
        (
            "a forward pointer",
            with(&good, &[0xc0, 200, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0], 1),
            FORMERR,
        ),
        (
            "an OPT as answer",
            changed(&with(&good, &opt, 0), &[(7, 1)]),
            FORMERR,
        ),
        ("status", changed(&good[..12], &[(2, 0x11), (5, 0)]), NOTIMP),
        (
            "an update of a mesh name",
            changed(&good, &[(2, 0x29)]),
            NOTIMP,
        ),
    ];
    for (what, message, want) in cases {
        let (action, out) = respond_to(message, true);
        assert!(matches!(action, Action::Answer(_)), "{what}: {action:?}");
        assert_eq!(describe(&out), *want, "{what}");
        assert_eq!(out[..2], message[..2], "{what}");
    }
}

#[test]
fn a_pointer_backwards_is_followed_by_nobody_and_harmless() {
    let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0];
    let (_, out) = respond_to(&with(&query(7, "cart", A), &record, 1), true);
    assert!(describe(&out).contains("127.96.1.1"));
}

#[test]
fn what_follows_a_foreign_question_is_left_to_its_server() {
    let good = query(7, "example.com", A);
    for message in [
        with(&good, &[0], 0),
        with(&good, &[], 3),
        changed(&good, &[(2, 0x29)]),
        edns_query("example.com", A, 4096, 9, 0x80),
    ] {
        assert!(matches!(respond_to(&message, true).0, Action::Forward(_)));
    }
}

#[test]
fn without_a_record_of_the_sender_nothing_is_served() {
    for message in [
        query(7, "cart", A),
        query(7, "example.com", A),
        query(7, "cart", A)[..14].to_vec(),
    ] {
        let (action, out) = respond_to(&message, false);
        assert_eq!(action, Action::Answer(Counter::Unrecorded));
        assert_eq!(describe(&out), "rcode 5 rd ra");
    }
}

/// No answer breaks a rule that all answers keep.
fn check_answer(message: &[u8], transport: Transport) {
    let mut out = Vec::new();
    let origin = Some(Origin {
        server: "192.0.2.53:53".parse().unwrap(),
        workload: SHOPPER,
    });
    if let Action::Answer(_) = respond(&table(), message, origin, transport, &mut out) {
        describe(&out);
        assert_eq!(out[..2], message[..2]);
        assert!(out.len() <= 1232 || transport == Transport::Tcp);
    }
}

proptest! {
    #[test]
    fn no_bytes_bring_it_down(message in vec(any::<u8>(), 0..600)) {
        check_answer(&message, Transport::Udp);
        check_answer(&message, Transport::Tcp);
    }

    #[test]
    fn no_damage_brings_it_down(
        name in "(_http\\._tcp\\.)?cart(\\.shop(\\.svc(\\.cluster\\.local)?)?)?(\\.corp\\.example)?",
        rtype in prop_oneof![any::<u16>(), Just(A), Just(33), Just(255)],
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut message = edns_query(&name, rtype, 512, 0, 0);
        for (place, byte) in damage {
            let place = place.index(message.len());
            message[place] = byte;
        }
        check_answer(&message, Transport::Udp);
    }
}
