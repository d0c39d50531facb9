"""The embedded stack: Kafka and Valkey as child processes, and the supervision of our own programs.

Import from the modules (`from botify.services.stack.embedded import EmbeddedStack`): this file stays empty so that the
watchdog, which every stack starts, does not import the Kafka and Redis clients.
"""
