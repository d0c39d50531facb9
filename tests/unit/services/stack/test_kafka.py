from pathlib import Path

from botify.services.stack.kafka import java_command, render, server_properties


def test_every_listener_is_on_the_loopback_interface():
    properties = server_properties(Path("data"), 9092, 9093)
    for listener in properties["listeners"].split(",") + properties["advertised.listeners"].split(","):
        assert listener.split("//")[1].startswith("127.0.0.1:")


def test_one_node_needs_no_second_replica():
    properties = server_properties(Path("data"), 9092, 9093)
    replicas = {name: value for name, value in properties.items() if "replication.factor" in name or "min.isr" in name}
    assert len(replicas) == 5
    assert set(replicas.values()) == {"1"}


def test_rendered_properties_keep_backslashes():
    assert render({"a": "1", "b": "x\\y"}) == "a=1\nb=x\\\\y\n"


def test_the_heap_is_bounded_and_the_program_comes_last():
    command = java_command(Path("java"), [Path("a.jar"), Path("b.jar")], "kafka.Kafka", "kafka.properties")
    assert command[0] == "java"
    assert command[-4:] == ["-cp", "a.jar:b.jar", "kafka.Kafka", "kafka.properties"]
    assert any(flag.startswith("-Xmx") for flag in command)
