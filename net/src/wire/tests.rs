use proptest::prelude::*;

use super::*;

fn status() -> impl Strategy<Value = Status> {
    (0u8..=4).prop_map(|byte| Status::from_byte(byte).unwrap())
}

fn frame() -> impl Strategy<Value = Frame> {
    let kind = proptest::option::of("[ -~]{1,255}");
    prop_oneof![
        any::<u64>().prop_map(|session| Frame::Hello { session }),
        (any::<u64>(), status()).prop_map(|(sequence, status)| Frame::Ack { sequence, status }),
        (any::<u64>(), kind, proptest::collection::vec(any::<u8>(), 0..200_000)).prop_map(
            |(sequence, content_type, data)| Frame::Message(Message { sequence, content_type, data })
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_frame_reads_back_and_no_part_of_it_is_a_frame(frame in frame(), cut in any::<prop::sample::Index>()) {
        let bytes = frame.encode();
        prop_assert_eq!(Frame::decode(&bytes, MAX_DATA).unwrap(), Some((frame, bytes.len())));
        let cut = cut.index(bytes.len());
        prop_assert_eq!(Frame::decode(&bytes[..cut], MAX_DATA).unwrap(), None);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), max in 0usize..32) {
        if let Ok(Some((frame, taken))) = Frame::decode(&bytes, max) {
            prop_assert!(taken <= bytes.len());
            if let Frame::Message(message) = frame {
                prop_assert!(message.data.len() <= max);
            }
        }
    }
}

#[test]
fn the_bytes_are_those_of_version_1() {
    let message = Message { sequence: 258, content_type: Some("a/b".into()), data: vec![7, 8] };
    assert_eq!(
        Frame::Message(message).encode(),
        [2, 0, 0, 0, 14, 0, 0, 0, 0, 0, 0, 1, 2, 3, b'a', b'/', b'b', 7, 8]
    );
    assert_eq!(Frame::Hello { session: 1 }.encode(), [1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1]);
    let ack = Frame::Ack { sequence: 1, status: Status::TooLarge };
    assert_eq!(ack.encode(), [3, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
}

#[test]
fn data_over_the_limit_is_skipped_and_named() {
    let message = Message { sequence: 9, content_type: None, data: vec![0; 1000] };
    let bytes = Frame::Message(message).encode();
    assert_eq!(Frame::decode(&bytes, 999).unwrap(), Some((Frame::Oversized { sequence: 9 }, bytes.len())));
    assert_eq!(Frame::decode(&bytes[..bytes.len() - 1], 999).unwrap(), None);
}

#[test]
fn lengths_that_cannot_be_are_refused_from_the_header_alone() {
    for header in [[2, 0xff, 0xff, 0xff, 0xff], [1, 0, 0, 0, 9], [3, 0, 0, 0, 0], [2, 0, 0, 0, 8]] {
        assert!(matches!(Frame::decode(&header, 10), Err(WireError::Length { .. })), "{header:?}");
    }
    assert!(matches!(Frame::decode(&[9, 0, 0, 0, 0], 10), Err(WireError::Kind(9))));
    // A content type that is longer than its frame.
    let lying = [2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 5];
    assert!(matches!(Frame::decode(&lying, 10), Err(WireError::Length { .. })));
}
