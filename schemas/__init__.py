"""Events on the wire: their classes, Avro schemas, codec, validation and topics."""
