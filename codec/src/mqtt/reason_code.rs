//! Reason codes of MQTT 5 (section 2.4) and the CONNACK return codes of 3.1.1 they stand for.

use super::frame::PacketType;
use super::ProtocolVersion;

/// Why, in one byte. Other protocols use the same codes inside the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ReasonCode {
    /// Also "normal disconnection" and "granted QoS 0".
    Success = 0x00,
    GrantedQos1 = 0x01,
    GrantedQos2 = 0x02,
    DisconnectWithWill = 0x04,
    NoMatchingSubscribers = 0x10,
    NoSubscriptionExisted = 0x11,
    ContinueAuthentication = 0x18,
    ReAuthenticate = 0x19,
    UnspecifiedError = 0x80,
    MalformedPacket = 0x81,
    ProtocolError = 0x82,
    ImplementationSpecificError = 0x83,
    UnsupportedProtocolVersion = 0x84,
    ClientIdentifierNotValid = 0x85,
    BadUserNameOrPassword = 0x86,
    NotAuthorized = 0x87,
    ServerUnavailable = 0x88,
    ServerBusy = 0x89,
    Banned = 0x8A,
    ServerShuttingDown = 0x8B,
    BadAuthenticationMethod = 0x8C,
    KeepAliveTimeout = 0x8D,
    SessionTakenOver = 0x8E,
    TopicFilterInvalid = 0x8F,
    TopicNameInvalid = 0x90,
    PacketIdentifierInUse = 0x91,
    PacketIdentifierNotFound = 0x92,
    ReceiveMaximumExceeded = 0x93,
    TopicAliasInvalid = 0x94,
    PacketTooLarge = 0x95,
    MessageRateTooHigh = 0x96,
    QuotaExceeded = 0x97,
    AdministrativeAction = 0x98,
    PayloadFormatInvalid = 0x99,
    RetainNotSupported = 0x9A,
    QosNotSupported = 0x9B,
    UseAnotherServer = 0x9C,
    ServerMoved = 0x9D,
    SharedSubscriptionsNotSupported = 0x9E,
    ConnectionRateExceeded = 0x9F,
    MaximumConnectTime = 0xA0,
    SubscriptionIdentifiersNotSupported = 0xA1,
    WildcardSubscriptionsNotSupported = 0xA2,
}

// Who may send a code in which packet, as bits; DISCONNECT and AUTH differ between the sides.
const CONNACK: u16 = 1 << 0;
const ACKS: u16 = 1 << 1; // PUBACK and PUBREC
const RELS: u16 = 1 << 2; // PUBREL and PUBCOMP
const SUBACK: u16 = 1 << 3;
const UNSUBACK: u16 = 1 << 4;
const DISCONNECT_CLIENT: u16 = 1 << 5;
const DISCONNECT_SERVER: u16 = 1 << 6;
const DISCONNECT: u16 = DISCONNECT_CLIENT | DISCONNECT_SERVER;
const AUTH_CLIENT: u16 = 1 << 7;
const AUTH_SERVER: u16 = 1 << 8;
const AUTH: u16 = AUTH_CLIENT | AUTH_SERVER;

/// Which end of a connection sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

impl ReasonCode {
    /// Every code, in the order of its value.
    pub const ALL: [ReasonCode; 43] = {
        use ReasonCode::*;
        [
            Success,
            GrantedQos1,
            GrantedQos2,
            DisconnectWithWill,
            NoMatchingSubscribers,
            NoSubscriptionExisted,
            ContinueAuthentication,
            ReAuthenticate,
            UnspecifiedError,
            MalformedPacket,
            ProtocolError,
            ImplementationSpecificError,
            UnsupportedProtocolVersion,
            ClientIdentifierNotValid,
            BadUserNameOrPassword,
            NotAuthorized,
            ServerUnavailable,
            ServerBusy,
            Banned,
            ServerShuttingDown,
            BadAuthenticationMethod,
            KeepAliveTimeout,
            SessionTakenOver,
            TopicFilterInvalid,
            TopicNameInvalid,
            PacketIdentifierInUse,
            PacketIdentifierNotFound,
            ReceiveMaximumExceeded,
            TopicAliasInvalid,
            PacketTooLarge,
            MessageRateTooHigh,
            QuotaExceeded,
            AdministrativeAction,
            PayloadFormatInvalid,
            RetainNotSupported,
            QosNotSupported,
            UseAnotherServer,
            ServerMoved,
            SharedSubscriptionsNotSupported,
            ConnectionRateExceeded,
            MaximumConnectTime,
            SubscriptionIdentifiersNotSupported,
            WildcardSubscriptionsNotSupported,
        ]
    };

    /// Codes of 0x80 and above say that the request failed.
    pub fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// The standard's name in snake case, as metrics and logs show it.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// Whether `side` may send this code in `packet`.
    pub fn is_valid_in(self, packet: PacketType, side: Side) -> bool {
        let bits = match (packet, side) {
            (PacketType::ConnAck, _) => CONNACK,
            (PacketType::PubAck | PacketType::PubRec, _) => ACKS,
            (PacketType::PubRel | PacketType::PubComp, _) => RELS,
            (PacketType::SubAck, _) => SUBACK,
            (PacketType::UnsubAck, _) => UNSUBACK,
            (PacketType::Disconnect, Side::Client) => DISCONNECT_CLIENT,
            (PacketType::Disconnect, Side::Server) => DISCONNECT_SERVER,
            (PacketType::Auth, Side::Client) => AUTH_CLIENT,
            (PacketType::Auth, Side::Server) => AUTH_SERVER,
            _ => 0,
        };
        self.row().1 & bits != 0
    }

    /// This code, or the nearest one that a server may send in `packet`.
    pub fn fitted_to(self, packet: PacketType) -> ReasonCode {
        if self.is_valid_in(packet, Side::Server) {
            return self;
        }
        let nearest = match (self, packet) {
            (ReasonCode::PacketIdentifierNotFound, _) => self,
            (_, PacketType::PubRel | PacketType::PubComp) => ReasonCode::Success,
            (_, _) if !self.is_error() => ReasonCode::Success,
            (ReasonCode::Banned, _) => ReasonCode::NotAuthorized,
            (ReasonCode::BadUserNameOrPassword, _) => ReasonCode::NotAuthorized,
            (ReasonCode::ServerUnavailable, _) => ReasonCode::ServerBusy,
            (ReasonCode::ServerShuttingDown, _) => ReasonCode::ServerUnavailable,
            (ReasonCode::AdministrativeAction, _) => ReasonCode::NotAuthorized,
            (ReasonCode::MessageRateTooHigh, _) => ReasonCode::QuotaExceeded,
            _ => ReasonCode::UnspecifiedError,
        };
        if nearest.is_valid_in(packet, Side::Server) {
            nearest
        } else {
            ReasonCode::UnspecifiedError
        }
    }

    /// The CONNACK return code of 3.1.1 (table 3-1); `None` where it knows no word but closing the connection.
    pub fn connack_return_code(self) -> Option<u8> {
        match self {
            ReasonCode::Success => Some(0),
            ReasonCode::UnsupportedProtocolVersion => Some(1),
            ReasonCode::ClientIdentifierNotValid => Some(2),
            ReasonCode::BadUserNameOrPassword => Some(4),
            ReasonCode::NotAuthorized
            | ReasonCode::Banned
            | ReasonCode::BadAuthenticationMethod
            | ReasonCode::AdministrativeAction => Some(5),
            // The packet was wrong: 3.1.1 closes without CONNACK [3.1.1 MQTT-3.1.4-1].
            ReasonCode::MalformedPacket
            | ReasonCode::ProtocolError
            | ReasonCode::PacketTooLarge
            | ReasonCode::TopicNameInvalid
            | ReasonCode::PayloadFormatInvalid
            | ReasonCode::QosNotSupported
            | ReasonCode::RetainNotSupported => None,
            _ => Some(3),
        }
    }

    /// What a return code of 3.1.1 means; `None` for the reserved ones.
    pub fn from_connack_return_code(code: u8) -> Option<ReasonCode> {
        const CODES: [ReasonCode; 6] = [
            ReasonCode::Success,
            ReasonCode::UnsupportedProtocolVersion,
            ReasonCode::ClientIdentifierNotValid,
            ReasonCode::ServerUnavailable,
            ReasonCode::BadUserNameOrPassword,
            ReasonCode::NotAuthorized,
        ];
        CODES.get(usize::from(code)).copied()
    }

    /// The byte of a SUBACK: 3.1.1 knows one failure only.
    pub(super) fn suback_byte(self, version: ProtocolVersion) -> u8 {
        if version == ProtocolVersion::V5 {
            self.fitted_to(PacketType::SubAck) as u8
        } else if self.is_error() {
            0x80
        } else {
            self as u8 & 0x03
        }
    }

    /// Name, and the packets that may carry the code (MQTT 5 section 2.4).
    fn row(self) -> (&'static str, u16) {
        match self {
            ReasonCode::Success => (
                "success",
                CONNACK | ACKS | RELS | SUBACK | UNSUBACK | DISCONNECT | AUTH_SERVER,
            ),
            ReasonCode::GrantedQos1 => ("granted_qos_1", SUBACK),
            ReasonCode::GrantedQos2 => ("granted_qos_2", SUBACK),
            ReasonCode::DisconnectWithWill => ("disconnect_with_will", DISCONNECT_CLIENT),
            ReasonCode::NoMatchingSubscribers => ("no_matching_subscribers", ACKS),
            ReasonCode::NoSubscriptionExisted => ("no_subscription_existed", UNSUBACK),
            ReasonCode::ContinueAuthentication => ("continue_authentication", AUTH),
            ReasonCode::ReAuthenticate => ("re_authenticate", AUTH_CLIENT),
            ReasonCode::UnspecifiedError => (
                "unspecified_error",
                CONNACK | ACKS | SUBACK | UNSUBACK | DISCONNECT,
            ),
            ReasonCode::MalformedPacket => ("malformed_packet", CONNACK | DISCONNECT),
            ReasonCode::ProtocolError => ("protocol_error", CONNACK | DISCONNECT),
            ReasonCode::ImplementationSpecificError => (
                "implementation_specific_error",
                CONNACK | ACKS | SUBACK | UNSUBACK | DISCONNECT,
            ),
            ReasonCode::UnsupportedProtocolVersion => ("unsupported_protocol_version", CONNACK),
            ReasonCode::ClientIdentifierNotValid => ("client_identifier_not_valid", CONNACK),
            ReasonCode::BadUserNameOrPassword => ("bad_user_name_or_password", CONNACK),
            ReasonCode::NotAuthorized => (
                "not_authorized",
                CONNACK | ACKS | SUBACK | UNSUBACK | DISCONNECT_SERVER,
            ),
            ReasonCode::ServerUnavailable => ("server_unavailable", CONNACK),
            ReasonCode::ServerBusy => ("server_busy", CONNACK | DISCONNECT_SERVER),
            ReasonCode::Banned => ("banned", CONNACK),
            ReasonCode::ServerShuttingDown => ("server_shutting_down", DISCONNECT_SERVER),
            ReasonCode::BadAuthenticationMethod => {
                ("bad_authentication_method", CONNACK | DISCONNECT_SERVER)
            }
            ReasonCode::KeepAliveTimeout => ("keep_alive_timeout", DISCONNECT_SERVER),
            ReasonCode::SessionTakenOver => ("session_taken_over", DISCONNECT_SERVER),
            ReasonCode::TopicFilterInvalid => (
                "topic_filter_invalid",
                SUBACK | UNSUBACK | DISCONNECT_SERVER,
            ),
            ReasonCode::TopicNameInvalid => ("topic_name_invalid", CONNACK | ACKS | DISCONNECT),
            ReasonCode::PacketIdentifierInUse => {
                ("packet_identifier_in_use", ACKS | SUBACK | UNSUBACK)
            }
            ReasonCode::PacketIdentifierNotFound => ("packet_identifier_not_found", RELS),
            ReasonCode::ReceiveMaximumExceeded => ("receive_maximum_exceeded", DISCONNECT),
            ReasonCode::TopicAliasInvalid => ("topic_alias_invalid", DISCONNECT),
            ReasonCode::PacketTooLarge => ("packet_too_large", CONNACK | DISCONNECT),
            ReasonCode::MessageRateTooHigh => ("message_rate_too_high", DISCONNECT),
            ReasonCode::QuotaExceeded => ("quota_exceeded", CONNACK | ACKS | SUBACK | DISCONNECT),
            ReasonCode::AdministrativeAction => ("administrative_action", DISCONNECT),
            ReasonCode::PayloadFormatInvalid => {
                ("payload_format_invalid", CONNACK | ACKS | DISCONNECT)
            }
            ReasonCode::RetainNotSupported => ("retain_not_supported", CONNACK | DISCONNECT_SERVER),
            ReasonCode::QosNotSupported => ("qos_not_supported", CONNACK | DISCONNECT_SERVER),
            ReasonCode::UseAnotherServer => ("use_another_server", CONNACK | DISCONNECT_SERVER),
            ReasonCode::ServerMoved => ("server_moved", CONNACK | DISCONNECT_SERVER),
            ReasonCode::SharedSubscriptionsNotSupported => (
                "shared_subscriptions_not_supported",
                SUBACK | DISCONNECT_SERVER,
            ),
            ReasonCode::ConnectionRateExceeded => {
                ("connection_rate_exceeded", CONNACK | DISCONNECT_SERVER)
            }
            ReasonCode::MaximumConnectTime => ("maximum_connect_time", DISCONNECT_SERVER),
            ReasonCode::SubscriptionIdentifiersNotSupported => (
                "subscription_identifiers_not_supported",
                SUBACK | DISCONNECT_SERVER,
            ),
            ReasonCode::WildcardSubscriptionsNotSupported => (
                "wildcard_subscriptions_not_supported",
                SUBACK | DISCONNECT_SERVER,
            ),
        }
    }
}

/// A byte that is no reason code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownReasonCode(pub u8);

impl TryFrom<u8> for ReasonCode {
    type Error = UnknownReasonCode;

    fn try_from(byte: u8) -> Result<Self, UnknownReasonCode> {
        // Sorted by value, and 0 is by far the most frequent.
        if byte == 0 {
            return Ok(ReasonCode::Success);
        }
        let index = Self::ALL.binary_search_by_key(&byte, |code| *code as u8);
        index
            .map(|index| Self::ALL[index])
            .map_err(|_| UnknownReasonCode(byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_as_the_codes_they_are() {
        let known = (0..=u8::MAX).filter_map(|byte| Some((byte, ReasonCode::try_from(byte).ok()?)));
        let known: Vec<_> = known.collect();
        assert_eq!(known.len(), ReasonCode::ALL.len());
        assert!(known.iter().all(|&(byte, code)| code as u8 == byte));
    }

    #[test]
    fn fitted_codes_may_be_sent() {
        use PacketType::*;
        for code in ReasonCode::ALL {
            for packet in [ConnAck, PubAck, PubRec, SubAck, UnsubAck, Disconnect] {
                let fitted = code.fitted_to(packet);
                assert!(
                    fitted.is_valid_in(packet, Side::Server),
                    "{code:?} in {packet:?}: {fitted:?}"
                );
                assert_eq!(fitted.is_error(), code.is_error(), "{code:?} in {packet:?}");
            }
        }
    }

    #[test]
    fn mqtt311_3_2_2_return_codes_come_back() {
        for byte in 0..6 {
            let code = ReasonCode::from_connack_return_code(byte).unwrap();
            assert_eq!(code.connack_return_code(), Some(byte));
        }
        assert_eq!(ReasonCode::from_connack_return_code(6), None);
    }

    #[test]
    fn names_are_snake_case_and_differ() {
        let mut names: Vec<_> = ReasonCode::ALL.iter().map(|code| code.name()).collect();
        assert!(names.iter().all(|name| name
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ReasonCode::ALL.len());
    }
}
