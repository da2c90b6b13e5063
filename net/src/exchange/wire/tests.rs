#![expect(clippy::arithmetic_side_effects, reason = "a test that overflows has failed")]

use proptest::prelude::*;

use super::*;

fn record() -> impl Strategy<Value = Arc<[u8]>> {
    prop::collection::vec(any::<u8>(), 1..200).prop_map(Into::into)
}

fn message() -> impl Strategy<Value = Message> {
    let reach = prop::sample::select(&Reach::ALL[..]);
    let digests = prop::sample::select(&DEPTHS[..])
        .prop_flat_map(|depth| prop::collection::vec(any::<Digest>(), 1 << depth));
    prop_oneof![
        (any::<u32>(), reach, any::<u64>(), any::<u64>(), digests).prop_map(
            |(number, reach, session, after, digests)| {
                Message::Request(Request { number, reach, session, after, digests })
            }
        ),
        (any::<u32>(), any::<u64>(), any::<u64>(), any::<bool>(), prop::collection::vec(record(), 0..20))
            .prop_map(|(number, session, version, more, records)| {
                Message::Response(Response { number, session, version, more, records })
            }),
        prop::collection::vec(record(), 1..=MAX_OWN).prop_map(Message::Announcement),
        any::<Digest>().prop_map(Message::Update),
    ]
}

fn read(mut bytes: &[u8]) -> Result<(Message, usize), ExchangeError> {
    futures::FutureExt::now_or_never(Message::read(&mut bytes)).expect("a slice never waits")
}

proptest! {
    #[test]
    fn every_message_reads_back(message in message()) {
        let bytes = message.encode();
        prop_assert!(bytes.len() <= MAX_MESSAGE);
        prop_assert_eq!(read(&bytes).unwrap(), (message, bytes.len()));
    }

    #[test]
    fn a_part_of_a_message_is_none(message in message(), part in 0.0..1.0) {
        let bytes = message.encode();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let cut = (bytes.len() as f64 * part) as usize;
        prop_assert!(matches!(read(&bytes[..cut]), Err(ExchangeError::Io(_))));
    }

    #[test]
    fn what_is_said_of_the_length_must_be_so(message in message(), by in 1_u8..20) {
        let mut bytes = message.encode();
        let length = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) + u32::from(by);
        bytes[1..5].copy_from_slice(&length.to_be_bytes());
        bytes.extend(vec![0; usize::from(by)]);
        let is_refused =
            matches!(read(&bytes), Err(ExchangeError::Malformed(_) | ExchangeError::Length { .. }));
        prop_assert!(is_refused);
    }
}

#[test]
fn a_length_is_judged_before_its_body_comes() {
    for kind in 1..=4 {
        let header = [kind, 0xff, 0xff, 0xff, 0xff];
        assert!(matches!(read(&header), Err(ExchangeError::Length { length: 0xffff_ffff, .. })), "{kind}");
        assert!(matches!(read(&[kind, 0, 0, 0, 0]), Err(ExchangeError::Length { length: 0, .. })), "{kind}");
    }
    assert!(matches!(read(&[5, 0, 0, 0, 1, 0]), Err(ExchangeError::Kind(5))));
    let over = u32::try_from(MAX_MESSAGE - HEADER + 1).unwrap().to_be_bytes();
    assert!(matches!(read(&[&[RESPONSE][..], &over].concat()), Err(ExchangeError::Length { .. })));
}

#[test]
fn numbers_that_lead_beyond_the_body_are_refused() {
    let response =
        Response { number: 1, session: 2, version: 3, more: false, records: vec![[7; 9][..].into()] };
    let good = Message::Response(response).encode();
    let with = |at: usize, bytes: &[u8]| {
        let mut wrong = good.clone();
        wrong[at..at + bytes.len()].copy_from_slice(bytes);
        read(&wrong)
    };
    let count = HEADER + RESPONSE_HEAD - 2;
    for wrong in [
        with(count, &[0xff, 0xff]),
        with(count, &[0, 2]),
        with(count, &[0, 0]),
        with(count - 1, &[2]),
        // The record's length: more than there is, nothing, more than any record has.
        with(count + 2, &[0, 10]),
        with(count + 2, &[0, 0]),
        with(count + 2, &[0xff, 0xff]),
    ] {
        assert!(matches!(wrong, Err(ExchangeError::Malformed(RESPONSE))), "{wrong:?}");
    }
    let request = Request { number: 1, reach: Reach::Host, session: 0, after: 0, digests: vec![[0; 16]] };
    let mut wrong = Message::Request(request).encode();
    wrong[HEADER + 4] = 3;
    assert!(matches!(read(&wrong), Err(ExchangeError::Malformed(REQUEST))), "a reach that is none");
    wrong[HEADER + 4] = 0;
    wrong[HEADER + 21] = 64;
    assert!(matches!(read(&wrong), Err(ExchangeError::Malformed(REQUEST))), "2^64 digests");
}
