//! The streams in Redis that carry sessions and removals.

use crate::config::Config;

/// The name of a partition's stream. The part in braces decides on the slot in a Cluster.
pub fn name(config: &Config, partition: u32) -> String {
    format!("tssession:{{{}:{partition}}}:sessions", config.farm)
}

/// The partition of a session's messages. A reader refuses a message in another stream: only in its
/// own stream are its sender's counters in order.
pub fn partition(subject: &[u8; 32], partitions: u32) -> u32 {
    let [a, b, c, d, ..] = *subject;
    u32::from_be_bytes([a, b, c, d]) % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_of_the_first_four_bytes() {
        let mut subject = [0xff; 32];
        subject[..4].copy_from_slice(&[0x01, 0x02, 0x03, 0x04]);
        assert_eq!(partition(&subject, 1), 0);
        assert_eq!(partition(&subject, 0x1000), 0x304);
        assert_eq!(partition(&subject, 1000), 0x0102_0304 % 1000);
    }
}
