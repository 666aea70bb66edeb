"""The data contract: the Avro record, its codec, the `Event` value, signatures, Shopify's topics. No I/O but its data files."""
