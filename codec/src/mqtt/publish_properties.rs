//! The properties that travel with a message, in their wire form: read on demand, and written for protocols that
//! are not MQTT.

use super::properties::Property;
use crate::cursor::{Reader, Writer, VARIABLE_INTEGER_MAX};

/// The properties of a message, read from their wire form on demand.
#[derive(Clone, Copy, Debug)]
pub struct PublishProperties<'a> {
    bytes: &'a [u8],
}

impl<'a> PublishProperties<'a> {
    /// `bytes` were validated when they were decoded or encoded; what does not parse is not there.
    pub fn new(bytes: &'a [u8]) -> Self {
        PublishProperties { bytes }
    }

    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All properties in their order; ends where one does not parse.
    pub fn iter(&self) -> impl Iterator<Item = Property<'a>> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        std::iter::from_fn(move || {
            let id = reader.u8().ok()?;
            Property::read(id, &mut reader).ok()
        })
    }

    /// Whether the publisher says that the payload is UTF-8 text.
    pub fn payload_format(&self) -> Option<bool> {
        self.iter().find_map(|property| match property {
            Property::PayloadFormatIndicator(text) => Some(text),
            _ => None,
        })
    }

    pub fn content_type(&self) -> Option<&'a str> {
        self.iter().find_map(|property| match property {
            Property::ContentType(text) => Some(text),
            _ => None,
        })
    }

    pub fn response_topic(&self) -> Option<&'a str> {
        self.iter().find_map(|property| match property {
            Property::ResponseTopic(text) => Some(text),
            _ => None,
        })
    }

    pub fn correlation_data(&self) -> Option<&'a [u8]> {
        self.iter().find_map(|property| match property {
            Property::CorrelationData(bytes) => Some(bytes),
            _ => None,
        })
    }

    /// Names may repeat; order counts [MQTT-3.3.2-18].
    pub fn user_properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.iter().filter_map(|property| match property {
            Property::UserProperty(name, value) => Some((name, value)),
            _ => None,
        })
    }

    pub fn user_property(&self, name: &str) -> Option<&'a str> {
        self.user_properties()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }
}

/// Writes the forwardable properties of a [`Message`](crate::Message) for protocols that are not MQTT.
///
/// ```
/// # use tidegate_codec::mqtt::properties::{PublishProperties, PublishPropertiesBuilder};
/// let mut builder = PublishPropertiesBuilder::new();
/// builder.content_type("text/plain")?;
/// builder.user_property("vin", "LTEST000000000001")?;
/// let bytes = builder.finish();
/// assert_eq!(PublishProperties::new(&bytes).user_property("vin"), Some("LTEST000000000001"));
/// # Ok::<(), tidegate_codec::mqtt::properties::NotRepresentable>(())
/// ```
#[derive(Debug, Default, Clone)]
pub struct PublishPropertiesBuilder {
    bytes: Vec<u8>,
    seen: u64,
}

/// A value that MQTT 5 cannot carry in this property: above 65,535 bytes, with U+0000, a wildcard in a response
/// topic, or a property that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotRepresentable;

impl std::fmt::Display for NotRepresentable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("value cannot be carried in an MQTT 5 property")
    }
}

impl std::error::Error for NotRepresentable {}

impl PublishPropertiesBuilder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the payload is UTF-8 text.
    pub fn payload_format(&mut self, text: bool) -> Result<&mut Self, NotRepresentable> {
        self.push(Property::PayloadFormatIndicator(text))
    }

    pub fn content_type(&mut self, content_type: &str) -> Result<&mut Self, NotRepresentable> {
        check_string(content_type)?;
        self.push(Property::ContentType(content_type))
    }

    pub fn response_topic(&mut self, topic: &str) -> Result<&mut Self, NotRepresentable> {
        check_string(topic)?;
        if topic.contains(['+', '#']) {
            return Err(NotRepresentable); // [MQTT-3.3.2-14]
        }
        self.push(Property::ResponseTopic(topic))
    }

    pub fn correlation_data(&mut self, data: &[u8]) -> Result<&mut Self, NotRepresentable> {
        if data.len() > usize::from(u16::MAX) {
            return Err(NotRepresentable);
        }
        self.push(Property::CorrelationData(data))
    }

    pub fn user_property(
        &mut self,
        name: &str,
        value: &str,
    ) -> Result<&mut Self, NotRepresentable> {
        check_string(name)?;
        check_string(value)?;
        self.push(Property::UserProperty(name, value))
    }

    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn push(&mut self, property: Property<'_>) -> Result<&mut Self, NotRepresentable> {
        let bit = 1u64 << property.id();
        let again = self.seen & bit != 0 && !matches!(property, Property::UserProperty(..));
        if again || self.bytes.len() > VARIABLE_INTEGER_MAX as usize / 2 {
            return Err(NotRepresentable);
        }
        self.seen |= bit;
        property.write(&mut Writer::new(&mut self.bytes));
        Ok(self)
    }
}

fn check_string(text: &str) -> Result<(), NotRepresentable> {
    if text.len() > usize::from(u16::MAX) || memchr::memchr(0, text.as_bytes()).is_some() {
        return Err(NotRepresentable);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mqtt5_3_3_2_18_the_order_of_user_properties_is_kept() {
        let mut builder = PublishPropertiesBuilder::new();
        for (name, value) in [("b", "1"), ("a", "2"), ("b", "3")] {
            builder.user_property(name, value).unwrap();
        }
        let bytes = builder.finish();
        let properties = PublishProperties::new(&bytes);
        let pairs: Vec<_> = properties.user_properties().collect();
        assert_eq!(pairs, [("b", "1"), ("a", "2"), ("b", "3")]);
        assert_eq!(properties.user_property("b"), Some("1"));
    }

    #[test]
    fn a_builder_refuses_what_no_reader_would_take() {
        let mut builder = PublishPropertiesBuilder::new();
        assert!(builder.content_type("a\0b").is_err());
        assert!(builder.response_topic("a/+").is_err());
        assert!(builder.correlation_data(&vec![0; 65_536]).is_err());
        assert!(builder.user_property(&"x".repeat(65_536), "").is_err());
        assert!(builder.payload_format(true).is_ok());
        assert!(builder.payload_format(true).is_err(), "twice");
        let bytes = builder.finish();
        assert_eq!(bytes, [1, 1]);
        assert_eq!(PublishProperties::new(&bytes).payload_format(), Some(true));
    }
}
