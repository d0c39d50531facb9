"""A person with a browser looks at every page, and is a listener, on a deployment with real data."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import Listen
from botify.schemas.topics import Topics
from botify.services.dashboard.readers import CANDIDATES, SHORT
from botify.streams.read import StateReader
from botify.streams.store.connect import connect
from tests.dashboard_scene import Scene, gateway, scene
from tests.support import deployed as deployed_in
from tests.support import eventually, make_listens, produce, read_topic

LISTENS = 2_500
PHONE = {"width": 390, "height": 844}
expect.set_options(timeout=20_000)
PAGES = ("/", "/popular", "/experiments", "/listener/42", "/letters", "/replays", "/recommend", "/listen")


@pytest.fixture(scope="module")
def deployed(servers: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(deployed_in(servers, tmp_path_factory.mktemp("dashboard")), LISTENS) as ready:
        yield ready


class Visit:
    def __init__(self, page: Page) -> None:
        self.page = page
        self.wrong: list[str] = []
        page.on("console", lambda said: said.type == "error" and self.wrong.append(said.text))
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda request: self._check(request.url))

    def _check(self, url: str) -> None:
        if urlsplit(url).hostname not in ("127.0.0.1", None):
            self.wrong.append(f"asked {url}: all assets come from our own packages")


def visited(browser: Browser, size: dict[str, int]) -> Iterator[Visit]:
    context = browser.new_context(viewport=size)  # type: ignore[arg-type]
    visit = Visit(context.new_page())
    yield visit
    context.close()
    assert not visit.wrong


@pytest.fixture
def laptop(browser: Browser) -> Iterator[Visit]:
    yield from visited(browser, {"width": 1440, "height": 900})


@pytest.fixture
def phone(browser: Browser) -> Iterator[Visit]:
    yield from visited(browser, PHONE)


def place(page: Page, name: str) -> Locator:
    return page.locator(f'[data-live="{name}"]')


def fits(page: Page) -> bool:
    """Say whether a phone shows all of it without scrolling sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"])


def test_the_overview_has_figures_and_goes_on_by_itself(deployed: Scene, laptop: Visit) -> None:
    page = laptop.page
    page.goto(deployed.url)
    total = len(read_topic(deployed.settings, Topics.of(deployed.settings).listens.name))
    expect(place(page, "tiles")).to_contain_text(f"{total:,} so far")
    expect(place(page, "worker-lag")).to_contain_text("keeps up")
    expect(place(page, "charts").locator(".s0, .s1, .s2").first).to_be_visible()
    for past in ("1 h", "6 h", "1 day", "2 min"):
        page.get_by_role("link", name=past, exact=True).click()
        expect(page.get_by_role("link", name=past, exact=True)).to_have_attribute("aria-current", "true")
    expect(place(page, "models")).to_contain_text("next_track")
    expect(place(page, "policies")).to_contain_text("sticky_artist")
    expect(place(page, "processes")).to_have_text("")  # nobody ran `botify up`
    produce(deployed.settings, Topics.of(deployed.settings).listens.name, make_listens(50, users=5, tracks=9, seed=3))
    expect(place(page, "tiles")).to_contain_text(f"{total + 50:,} so far")


def test_a_page_that_does_not_exist_is_one_of_ours(deployed: Scene, laptop: Visit) -> None:
    answer = laptop.page.goto(f"{deployed.url}/lettres")
    assert answer is not None
    assert answer.status == 404
    expect(laptop.page.get_by_role("heading", name="No such page")).to_be_visible()
    laptop.wrong.clear()  # the browser reports the status as an error


def test_popular_tracks_have_titles(deployed: Scene, laptop: Visit) -> None:
    laptop.page.goto(f"{deployed.url}/popular")
    rows = place(laptop.page, "now").locator("tbody tr")
    expect(rows).to_have_count(20)
    # as deep as the page: what is merged of the partitions' tops depends on it, where tracks were heard alike
    best = StateReader(connect(deployed.settings), deployed.settings).top_tracks(SHORT, CANDIDATES).tracks[0]
    expect(rows.first).to_contain_text(deployed.world.catalogue.titles[int(best)])


def test_an_experiment_has_effect_and_interval(deployed: Scene, laptop: Visit) -> None:
    page = laptop.page
    page.goto(f"{deployed.url}/experiments")
    card = page.locator(".card", has_text="STICKY_ARTIST")
    expect(card.locator("tbody tr")).to_have_count(5, timeout=60_000)
    expect(card).to_contain_text("mean time per session")
    expect(card.locator(".interval .range")).to_have_count(5)
    expect(card).to_contain_text("declares no success metrics")


def test_a_listeners_page_says_why(deployed: Scene, laptop: Visit) -> None:
    page = laptop.page
    codec, topic = Codec(), Topics.of(deployed.settings).listens.name
    listens = (codec.decode(m.value(), Listen) for m in read_topic(deployed.settings, topic) if (m.key() or b"")[1:])
    heard = next(listen for listen in listens if listen.propensity is not None)
    content = page.locator(".content")
    page.goto(f"{deployed.url}/listener")
    page.get_by_label("listener").fill(str(heard.user))
    page.get_by_role("button", name="show").click()
    expect(content).to_contain_text(f"session {heard.session_id}")
    row = page.locator(".card", has_text=heard.session_id).locator("tr", has_text=f"p = {heard.propensity:.3g}").first
    expect(row).to_contain_text(str(heard.recommender))
    expect(row).to_contain_text("STICKY_ARTIST")
    for listener, said in (("999999999", "has no listens"), ("me", "listener me has no listens"), ("42", "listens")):
        page.goto(f"{deployed.url}/listener/{listener}")
        expect(content).to_contain_text(said)
    expect(content).not_to_contain_text("session bad")  # it is a dead letter


def test_what_is_wrong_is_on_top_with_its_runbook(deployed: Scene, laptop: Visit) -> None:
    page = laptop.page
    page.goto(deployed.url)
    trouble = page.get_by_role("alert").filter(has_text="BotifyDeadLetters")
    expect(trouble).to_contain_text("since 2")
    trouble.locator("summary").click()
    expect(trouble).to_contain_text("botify dlq redrive")
    said = trouble.inner_text()
    expect(trouble).not_to_have_text(said)  # it is sent again, with another time
    expect(trouble.locator("p").last).to_be_visible()


def test_dead_letters_are_shown_and_not_run(deployed: Scene, laptop: Visit) -> None:
    laptop.page.goto(f"{deployed.url}/letters")
    letters = place(laptop.page, "letters")
    expect(letters.locator("tbody tr")).to_have_count(3)
    expect(letters).to_contain_text("unknown schema id 99")
    expect(letters).to_contain_text("fraction 7.0 is not between 0 and 1")
    assert laptop.page.evaluate("window.hacked") is None


def test_a_replay_has_come_to_its_end(deployed: Scene, laptop: Visit) -> None:
    laptop.page.goto(f"{deployed.url}/replays")
    for said in ("ready", "100%"):
        expect(place(laptop.page, "replays")).to_contain_text(said)


def test_a_person_is_a_listener(deployed: Scene, phone: Visit) -> None:
    page = phone.page
    page.goto(f"{deployed.url}/listen")
    title = deployed.world.catalogue.titles[0]
    page.get_by_placeholder("title or artist").fill(title)
    expect(page.locator(".pick").first).to_contain_text(title)
    page.locator(".pick").first.click()
    expect(page.locator(".pick.chosen")).to_have_count(1)
    page.get_by_placeholder("title or artist").fill("")
    expect(page.locator(".pick:not(.chosen)")).to_have_count(12)
    page.locator(".pick:not(.chosen)").last.click()
    expect(page.locator(".pick.chosen")).to_have_count(2)
    user = int(page.get_by_label("listener").input_value())
    page.get_by_role("button", name="Start listening").click()
    rows = page.locator(".card", has_text="Heard so far").locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(page.locator(".player")).to_contain_text("recommended by")
    expect(page.locator(".player")).to_contain_text("STICKY_ARTIST")
    assert fits(page)
    page.get_by_role("button", name="Skip").click()
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("5%")
    page.get_by_role("button", name="Next").click()
    expect(rows).to_have_count(4)
    expect(rows.first).to_contain_text("80%")
    page.get_by_role("button", name="Leave").click()
    expect(page.locator(".content")).to_contain_text("Your session")
    assert fits(page)

    reader = StateReader(connect(deployed.settings), deployed.settings)

    def heard() -> int:
        (state,) = reader.users([user])
        return state.listens if state else 0

    eventually(lambda: heard() == 5, what="the worker has the person's five listens")
    page.get_by_role("link", name="See what Botify knows about you").click()
    expect(page.locator(".content")).to_contain_text("5 tracks")
    assert fits(page)


def test_a_person_is_the_recommender(deployed: Scene, phone: Visit) -> None:
    page = phone.page
    page.goto(f"{deployed.url}/recommend")
    page.get_by_role("button", name="A listener, please").click()
    expect(page.locator(".player")).to_contain_text("chose")
    title = deployed.world.catalogue.titles[0]
    page.get_by_placeholder("title or artist").fill(title)
    expect(page.locator(".pick").first).to_contain_text(title)
    assert fits(page)
    page.get_by_placeholder("title or artist").fill("")
    expect(page.locator(".pick", has_text="popular").first).to_be_visible()
    rows = page.locator(".card", has_text="Heard so far").locator("tbody tr")
    over = page.get_by_role("heading", name="You are")
    for tracks in range(1, 500):  # the longest session
        expect(rows.or_(over)).not_to_have_count(0)
        if over.is_visible():
            break
        expect(rows).to_have_count(tracks)
        page.locator(".pick").first.click()
        expect(rows).not_to_have_count(tracks)
    for name in ("you", "random", "sticky_artist"):
        expect(page.locator(".card", has=over)).to_contain_text(name)
    assert fits(page)
    count = rows.count()
    page.get_by_role("link", name="See the session as the service saw it").click()
    expect(page.locator(".content")).to_contain_text(f"{count} tracks")  # they went the way of all listens
    expect(page.locator(".content")).to_contain_text("ended")


def test_every_page_fits_a_phone_and_both_lights(deployed: Scene, phone: Visit) -> None:
    page = phone.page
    for path in PAGES:
        page.goto(deployed.url + path)
        expect(page.locator("h1")).to_be_visible()
        assert fits(page), path
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="light or dark").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light, "the choice is kept"


def test_without_servers_the_pages_say_so(deployed: Scene, laptop: Visit) -> None:
    nowhere = deployed.settings.with_(kafka_bootstrap_servers="127.0.0.1:1", redis_url="redis://127.0.0.1:1/0")
    with gateway(nowhere) as url:
        laptop.page.goto(url)
        alerts = laptop.page.get_by_role("alert")
        expect(alerts.filter(has_text="no Kafka listens at 127.0.0.1:1")).to_be_visible()
        expect(alerts.filter(has_text="no Redis listens at 127.0.0.1:1")).to_be_visible()
