"""The words on the wire: events, their Avro schemas and codec, topics, settings and errors."""
