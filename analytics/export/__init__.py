"""Topics as files: incremental, exactly once, readable by anything that reads Parquet."""
