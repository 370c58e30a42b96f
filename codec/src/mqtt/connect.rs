//! CONNECT (MQTT 5 section 3.1, 3.1.1 section 3.1).
//!
//! ```text
//! byte 1             0001 0000
//! byte 2…            remaining length
//! protocol name      UTF-8 string, `MQTT` (3.1: `MQIsdp`)
//! protocol level     one byte: 3, 4 or 5
//! connect flags      user name, password, will retain, will QoS (2), will, clean start, reserved
//! keep alive         two bytes, seconds
//! properties         MQTT 5
//! client id          UTF-8 string
//! will properties    MQTT 5, with a will
//! will topic         UTF-8 string, with a will
//! will payload       binary data, with a will
//! user name          UTF-8 string, with its flag
//! password           binary data, with its flag
//! ```

use super::frame::{begin, PacketType};
use super::properties::{write_properties, Carrier, Property, PropertyReader};
use super::{finish, malformed, protocol_error, ProtocolVersion};
use crate::conversation::{FrameSink, Violation};
use crate::cursor::{Count, Reader, Writer};
use crate::message::{Message, Qos};
use crate::mqtt::connection::Limits;
use crate::mqtt::reason_code::ReasonCode;
use crate::topic;

/// A decoded CONNECT, and what a client says in one.
#[derive(Debug, Clone)]
pub struct Connect {
    pub version: ProtocolVersion,
    /// Empty where the client leaves the choice to the server.
    pub client_id: String,
    /// Clean Session of 3.1.1, Clean Start of 5.
    pub clean_start: bool,
    /// Seconds; 0 means no keep-alive.
    pub keep_alive: u16,
    pub user_name: Option<String>,
    pub password: Option<Vec<u8>>,
    pub will: Option<Will>,
    /// Seconds the session outlives its connection: 0 for a clean session of 3.1.1 and where MQTT 5 is silent,
    /// `u32::MAX` ("does not expire") for clean session 0 of 3.1.1.
    pub session_expiry_interval: u32,
    /// Unacknowledged QoS 1 and 2 messages the client takes at once; 65,535 where it is silent.
    pub receive_maximum: u16,
    pub maximum_packet_size: Option<u32>,
    pub topic_alias_maximum: u16,
    pub request_response_information: bool,
    pub request_problem_information: bool,
    pub user_properties: Vec<(String, String)>,
    pub authentication_method: Option<String>,
    pub authentication_data: Option<Vec<u8>>,
}

/// The will of a CONNECT: a message, and how long to wait before it is published.
#[derive(Debug, Clone)]
pub struct Will {
    /// Carries QoS and RETAIN. Its expiry interval, when it has one, runs from the moment of publication.
    pub message: Message,
    pub delay_interval: u32,
    pub message_expiry_interval: Option<u32>,
}

impl Default for Connect {
    /// What a client says that says nothing: 3.1.1, a clean session, no keep-alive.
    fn default() -> Self {
        Connect {
            version: ProtocolVersion::default(),
            client_id: String::new(),
            clean_start: true,
            keep_alive: 0,
            user_name: None,
            password: None,
            will: None,
            session_expiry_interval: 0,
            receive_maximum: u16::MAX,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            user_properties: Vec::new(),
            authentication_method: None,
            authentication_data: None,
        }
    }
}

// Connect flags, MQTT 5 section 3.1.2.3.
const RESERVED: u8 = 1 << 0;
const CLEAN_START: u8 = 1 << 1;
const WILL: u8 = 1 << 2;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_QOS: u8 = 0b11 << WILL_QOS_SHIFT;
const WILL_RETAIN: u8 = 1 << 5;
const PASSWORD: u8 = 1 << 6;
const USER_NAME: u8 = 1 << 7;

/// The version in the first bytes of a CONNECT body; `None` while they are not there. Bytes that are no protocol
/// name count as 3.1.1, which closes without a word.
pub(super) fn peek_version(body: &[u8]) -> Option<ProtocolVersion> {
    const NAME: &[u8] = b"\0\x04MQTT";
    let common = body.len().min(NAME.len());
    if body[..common] != NAME[..common] {
        return Some(ProtocolVersion::V3_1_1);
    }
    match body.get(NAME.len())? {
        5 => Some(ProtocolVersion::V5),
        _ => Some(ProtocolVersion::V3_1_1),
    }
}

/// Protocol name and level. `form` becomes the version in which a refusal is understood.
fn read_version(reader: &mut Reader<'_>, form: &mut ProtocolVersion) -> Result<(), Violation> {
    let name = reader.binary()?;
    if !matches!(name, b"MQTT" | b"MQIsdp") {
        // Closed without a word: whoever speaks here does not speak MQTT [MQTT-3.1.2-1].
        return Err(protocol_error("MQTT-3.1.2-1", "protocol name is not MQTT"));
    }
    let level = reader.u8()?;
    let version = ProtocolVersion::ALL
        .into_iter()
        .find(|version| (name, level) == bytes_of(version.name_and_level()));
    // Bridges of old set the top bit; later versions understand the form of MQTT 5 best.
    let newer = name == b"MQTT" && level & 0x7F > 5;
    *form = version.unwrap_or(if newer {
        ProtocolVersion::V5
    } else {
        ProtocolVersion::V3_1_1
    });
    match version {
        Some(_) => Ok(()),
        None => Err(Violation::new(
            ReasonCode::UnsupportedProtocolVersion,
            "MQTT-3.1.2-2",
            "protocol level is none of 3, 4 and 5",
        )),
    }
}

fn bytes_of((name, level): (&'static str, u8)) -> (&'static [u8], u8) {
    (name.as_bytes(), level)
}

impl Connect {
    /// Reads the body of a CONNECT. `form` becomes the version to answer in, also where decoding fails.
    pub fn decode(
        body: &[u8],
        limits: &Limits,
        form: &mut ProtocolVersion,
    ) -> Result<Connect, Violation> {
        let mut reader = Reader::new(body);
        read_version(&mut reader, form)?;
        let version = *form;
        let flags = reader.u8()?;
        check_flags(flags, version)?;
        let clean_start = flags & CLEAN_START != 0;
        let mut connect = Connect {
            version,
            clean_start,
            keep_alive: reader.u16()?,
            session_expiry_interval: if clean_start || version.is_v5() {
                0
            } else {
                u32::MAX
            },
            ..Connect::default()
        };
        if version.is_v5() {
            connect.read_properties(&mut reader)?;
        }
        connect.read_client_id(&mut reader, limits)?;
        if flags & WILL != 0 {
            connect.will = Some(Will::read(&mut reader, flags, version, limits)?);
        }
        // MQTT 3.1 lets the remaining length take precedence over the flags of user name and password.
        let absent = |reader: &Reader<'_>| version == ProtocolVersion::V3_1 && reader.is_empty();
        if flags & USER_NAME != 0 && !absent(&reader) {
            connect.user_name = Some(reader.string()?.to_owned()); // [MQTT-3.1.2-17]
        }
        if flags & PASSWORD != 0 && !absent(&reader) {
            connect.password = Some(reader.binary()?.to_vec()); // [MQTT-3.1.2-19]
        }
        finish(&reader)?; // [MQTT-3.1.2-16], [MQTT-3.1.2-18]: nothing without its flag
        Ok(connect)
    }

    fn read_properties(&mut self, reader: &mut Reader<'_>) -> Result<(), Violation> {
        let mut properties = PropertyReader::take(reader, Carrier::Packet(PacketType::Connect))?;
        while let Some(property) = properties.try_next()? {
            match property {
                Property::SessionExpiryInterval(seconds) => self.session_expiry_interval = seconds,
                Property::ReceiveMaximum(maximum) => self.receive_maximum = maximum,
                Property::MaximumPacketSize(size) => self.maximum_packet_size = Some(size),
                Property::TopicAliasMaximum(maximum) => self.topic_alias_maximum = maximum,
                Property::RequestResponseInformation(yes) => {
                    self.request_response_information = yes
                }
                Property::RequestProblemInformation(yes) => self.request_problem_information = yes,
                Property::UserProperty(name, value) => {
                    self.user_properties
                        .push((name.to_owned(), value.to_owned()));
                }
                Property::AuthenticationMethod(method) => {
                    self.authentication_method = Some(method.to_owned());
                }
                Property::AuthenticationData(data) => {
                    self.authentication_data = Some(data.to_vec())
                }
                _ => {}
            }
        }
        if self.authentication_data.is_some() && self.authentication_method.is_none() {
            return Err(protocol_error(
                "MQTT 5 3.1.2.11.10",
                "authentication data without a method",
            ));
        }
        Ok(())
    }

    fn read_client_id(
        &mut self,
        reader: &mut Reader<'_>,
        limits: &Limits,
    ) -> Result<(), Violation> {
        const fn refused(rule: &'static str, text: &'static str) -> Violation {
            Violation::new(ReasonCode::ClientIdentifierNotValid, rule, text)
        }
        let client_id = reader.string()?; // [MQTT-3.1.3-3], [MQTT-3.1.3-4]
        if client_id.len() > usize::from(limits.client_id_bytes_max) {
            return Err(refused(
                "MQTT-3.1.3-8",
                "client id above client_id_bytes_max",
            ));
        }
        match self.version {
            _ if !client_id.is_empty() => {}
            ProtocolVersion::V5 => {} // The server chooses one [MQTT-3.1.3-6].
            ProtocolVersion::V3_1_1 if self.clean_start => {} // [3.1.1 MQTT-3.1.3-6]
            ProtocolVersion::V3_1_1 => {
                return Err(refused(
                    "3.1.1 MQTT-3.1.3-8",
                    "empty client id with clean session 0",
                ));
            }
            ProtocolVersion::V3_1 => return Err(refused("MQTT 3.1 3.1", "empty client id")),
        }
        self.client_id = client_id.to_owned();
        Ok(())
    }

    /// Writes the packet in the form of `version`.
    pub fn encode(&self, version: ProtocolVersion, out: &mut impl FrameSink) {
        let mut count = Count::default();
        self.write_body(version, &mut Writer::new(&mut count));
        self.write_body(
            version,
            &mut begin(PacketType::Connect.first_byte(), count.0, out),
        );
    }

    fn write_body<S: FrameSink>(&self, version: ProtocolVersion, writer: &mut Writer<'_, S>) {
        let (name, level) = version.name_and_level();
        writer.string(name);
        writer.u8(level);
        writer.u8(self.flags());
        writer.u16(self.keep_alive);
        if version.is_v5() {
            write_properties(&self.properties(), writer);
        }
        writer.string(&self.client_id);
        if let Some(will) = &self.will {
            will.write(version, writer);
        }
        if let Some(user_name) = &self.user_name {
            writer.string(user_name);
        }
        if let Some(password) = &self.password {
            writer.binary(password);
        }
    }

    fn flags(&self) -> u8 {
        let mut flags = 0;
        let mut set = |flag, condition| flags |= if condition { flag } else { 0 };
        set(CLEAN_START, self.clean_start);
        set(USER_NAME, self.user_name.is_some());
        set(PASSWORD, self.password.is_some());
        if let Some(will) = &self.will {
            set(WILL, true);
            set(WILL_RETAIN, will.message.retain());
            set((will.message.qos() as u8) << WILL_QOS_SHIFT, true);
        }
        flags
    }

    /// What differs from the values that silence means.
    fn properties(&self) -> Vec<Property<'_>> {
        let mut properties = Vec::new();
        let mut say = |property, differs: bool| {
            if differs {
                properties.push(property);
            }
        };
        let seconds = self.session_expiry_interval;
        say(Property::SessionExpiryInterval(seconds), seconds != 0);
        say(
            Property::ReceiveMaximum(self.receive_maximum),
            self.receive_maximum != u16::MAX,
        );
        let size = self.maximum_packet_size;
        say(
            Property::MaximumPacketSize(size.unwrap_or_default()),
            size.is_some(),
        );
        let aliases = self.topic_alias_maximum;
        say(Property::TopicAliasMaximum(aliases), aliases != 0);
        say(
            Property::RequestResponseInformation(true),
            self.request_response_information,
        );
        say(
            Property::RequestProblemInformation(false),
            !self.request_problem_information,
        );
        for (name, value) in &self.user_properties {
            say(Property::UserProperty(name, value), true);
        }
        if let Some(method) = &self.authentication_method {
            say(Property::AuthenticationMethod(method), true);
        }
        if let Some(data) = &self.authentication_data {
            say(Property::AuthenticationData(data), true);
        }
        properties
    }
}

fn check_flags(flags: u8, version: ProtocolVersion) -> Result<(), Violation> {
    // MQTT 3.1 calls the reserved bit "not used".
    if flags & RESERVED != 0 && version != ProtocolVersion::V3_1 {
        return Err(malformed("MQTT-3.1.2-3", "reserved connect flag"));
    }
    // Without a will MQTT 3.1 disregards the will's QoS and RETAIN.
    if flags & WILL == 0 && version != ProtocolVersion::V3_1 {
        if flags & WILL_QOS != 0 {
            return Err(malformed(
                "MQTT-3.1.2-11, 3.1.1 MQTT-3.1.2-13",
                "will QoS without a will",
            ));
        }
        if flags & WILL_RETAIN != 0 {
            return Err(malformed(
                "MQTT-3.1.2-13, 3.1.1 MQTT-3.1.2-15",
                "will RETAIN without a will",
            ));
        }
    }
    let has_will = flags & WILL != 0 || version != ProtocolVersion::V3_1;
    if has_will && flags & WILL_QOS == WILL_QOS {
        return Err(malformed(
            "MQTT-3.1.2-12, 3.1.1 MQTT-3.1.2-14",
            "will QoS 3",
        ));
    }
    // MQTT 5 allows a password alone (section 3.1.2.9).
    if !version.is_v5() && flags & (USER_NAME | PASSWORD) == PASSWORD {
        return Err(malformed(
            "3.1.1 MQTT-3.1.2-22",
            "password without a user name",
        ));
    }
    Ok(())
}

impl Will {
    fn read(
        reader: &mut Reader<'_>,
        flags: u8,
        version: ProtocolVersion,
        limits: &Limits,
    ) -> Result<Will, Violation> {
        let mut forwardable = Vec::new();
        let (mut delay_interval, mut message_expiry_interval) = (0, None);
        if version.is_v5() {
            let mut writer = Writer::new(&mut forwardable);
            let mut properties = PropertyReader::take(reader, Carrier::Will)?;
            while let Some(property) = properties.try_next()? {
                match property {
                    Property::WillDelayInterval(seconds) => delay_interval = seconds,
                    Property::MessageExpiryInterval(seconds) => {
                        message_expiry_interval = Some(seconds);
                    }
                    property => property.write(&mut writer),
                }
            }
        }
        let topic = reader.string()?; // [MQTT-3.1.3-11], [3.1.1 MQTT-3.1.3-10]
        topic::validate_name(topic, limits.topic).map_err(|_| {
            Violation::new(
                ReasonCode::TopicNameInvalid,
                "MQTT-4.7.0-1",
                "will topic is no topic name",
            )
        })?;
        let payload = reader.binary()?;
        // `check_flags` refused QoS 3.
        let qos = Qos::from_u8((flags & WILL_QOS) >> WILL_QOS_SHIFT).unwrap_or_default();
        let retain = flags & WILL_RETAIN != 0;
        let message = Message::new(topic, &forwardable, payload, qos, retain);
        Ok(Will {
            message,
            delay_interval,
            message_expiry_interval,
        })
    }

    fn write<S: FrameSink>(&self, version: ProtocolVersion, writer: &mut Writer<'_, S>) {
        if version.is_v5() {
            let mut properties: Vec<_> = self.message.properties().iter().collect();
            properties.extend(
                self.message_expiry_interval
                    .map(Property::MessageExpiryInterval),
            );
            if self.delay_interval != 0 {
                properties.push(Property::WillDelayInterval(self.delay_interval));
            }
            write_properties(&properties, writer);
        }
        writer.string(self.message.topic());
        writer.binary(self.message.payload());
    }
}
