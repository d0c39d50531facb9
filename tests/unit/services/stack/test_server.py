from services.stack.server import bound, tail


def test_a_small_log_is_left_alone(tmp_path):
    log = tmp_path / "kafka.log"
    log.write_text("small\n")
    bound(log, max_bytes=100)
    assert log.read_text() == "small\n"


def test_a_big_log_is_moved_aside_and_the_writer_goes_on_at_the_start(tmp_path):
    log = tmp_path / "kafka.log"
    with log.open("a") as writer:
        writer.write("x" * 200)
        writer.flush()
        bound(log, max_bytes=100)
        writer.write("after")
    assert log.read_text() == "after"
    assert (tmp_path / "kafka.log.1").read_text() == "x" * 200


def test_the_tail_is_the_last_lines(tmp_path):
    log = tmp_path / "kafka.log"
    log.write_text("".join(f"{number}\n" for number in range(50)))
    assert tail(log, lines=2) == "48\n49"


def test_no_log_has_no_tail(tmp_path):
    bound(tmp_path / "gone.log")
    assert tail(tmp_path / "gone.log") == ""
