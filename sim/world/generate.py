"""Generate worlds: names, a catalogue with vectors, and listeners."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from botify.sim.world.config import WorldConfig
from botify.sim.world.model import Details, Listeners, WorldCatalogue, nearest


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_GENRES = _words(
    """
    ambient bachata bebop bluegrass blues bossa-nova breakbeat chamber chanson choral country cumbia dancehall disco
    drone dub electro fado flamenco folk funk garage gospel grime hip-hop house indie jazz klezmer metal minimal opera
    polka pop punk reggae rock shoegaze soul techno
    """
)
_ADJECTIVES = _words(
    """
    Amber Ancient Blue Bright Broken Burning Calm Crimson Distant Electric Empty Endless Faded Fallen Foreign Frozen
    Gentle Golden Hidden Hollow Idle Ivory Late Little Lonely Lost Lucky Midnight Modern Northern Open Pale Patient
    Paper Plain Quiet Restless Rolling Sacred Secret Silent Silver Simple Slow Small Southern Tender Velvet Wild Young
    """
)
_NOUNS = _words(
    """
    Anchors Arrows Bells Birds Bridges Cities Clouds Comets Corners Crowns Dancers Deserts Doors Engines Feathers Fields
    Fires Flowers Forests Foxes Gardens Ghosts Harbours Hearts Hills Horizons Horses Islands Kings Lanterns Letters
    Lights Machines Maps Mirrors Mountains Nights Oceans Orchards Owls Pilots Planets Rivers Roads Sailors Shadows
    Signals Stairs Stations Stones Stories Streets Summers Swans Tides Towers Trains Valleys Waves Windows
    """
)


def genre_names(count: int) -> tuple[str, ...]:
    """Return `count` different genre names."""
    return tuple(_numbered(_GENRES, index) for index in range(count))


def artist_names(count: int) -> tuple[str, ...]:
    """Return `count` different artist names."""
    pairs = [f"The {adjective} {noun}" for noun in _NOUNS for adjective in _ADJECTIVES]
    return tuple(_numbered(pairs, index) for index in range(count))


def titles(count: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Draw `count` titles; like real ones they may repeat."""
    adjectives = rng.integers(len(_ADJECTIVES), size=count).tolist()
    nouns = rng.integers(len(_NOUNS), size=count).tolist()
    return tuple(f"{_ADJECTIVES[a]} {_NOUNS[n]}" for a, n in zip(adjectives, nouns, strict=True))


def _numbered(names: Sequence[str], index: int) -> str:
    """Return the name at `index`; after the last name, the names repeat with a number."""
    turn, place = divmod(index, len(names))
    return names[place] if turn == 0 else f"{names[place]} {turn + 1}"


_TRACKS_PER_ALBUM = 10
_MOST_TRACKS_OF_AN_ARTIST = 80
_SIZE_EXPONENT, _SIZE_CUTOFF = 1.6, 60.0
_MEDIAN_DURATION_S, _DURATION_SPREAD, _SHORTEST_S, _LONGEST_S = 220.0, 0.3, 60.0, 600.0
_SCENE_EXPONENT = 0.3
_CLUSTER_CONCENTRATION = 0.3
_BLOCK = 1 << 14  # tracks whose vectors are drawn at a time


def generate(config: WorldConfig) -> tuple[WorldCatalogue, Listeners]:
    """Draw a world; the same settings give the same world."""
    names, sizes, vectors, tastes, people, told = np.random.default_rng(config.seed).spawn(6)
    artist_of = draw_artists(config.tracks, config.artists, sizes)
    scene_of, genre_of = (of_artist[artist_of].astype(np.int32) for of_artist in draw_scenes(config, sizes))
    catalogue = WorldCatalogue(
        embeddings=draw_embeddings(config, artist_of, genre_of, scene_of, vectors),
        artist_of=artist_of,
        genre_of=genre_of,
        scene_of=scene_of,
        duration_ms=draw_durations(config.tracks, sizes),
        artists=artist_names(config.artists),
        genres=genre_names(config.genres),
        albums=name_albums(artist_of, names),
        titles=titles(config.tracks, names),
        details=draw_details(config, artist_of, scene_of, told) if config.countries else (),
    )
    interests = draw_interests(config, scene_of, tastes)
    return catalogue, draw_listeners(config, catalogue.embeddings, interests, people)


def draw_artists(tracks: int, artists: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Draw the artist of every track; each artist has a track.

    An artist has k tracks with a probability proportional to `k ** -1.6 * exp(-k / 60)`, 1 to 80, which fits the
    course's catalogue (4.4 tracks per artist; a track's artist has 19 on average, the course's 19.1). The difference
    to the number of tracks is added to or removed from artists in proportion to their size.
    """
    sizes = np.arange(1, _MOST_TRACKS_OF_AN_ARTIST + 1)
    weights = sizes**-_SIZE_EXPONENT * np.exp(-sizes / _SIZE_CUTOFF)
    drawn = rng.choice(sizes, size=artists, p=weights / weights.sum())
    spare = np.repeat(np.arange(artists), drawn - 1)
    wanted = tracks - artists
    if wanted <= len(spare):
        spare = rng.choice(spare, size=wanted, replace=False)
    else:
        more = rng.choice(artists, size=wanted - len(spare), p=drawn / drawn.sum())
        spare = np.concatenate([spare, more])
    return rng.permutation(np.concatenate([np.arange(artists), spare])).astype(np.int32)


def draw_scenes(config: WorldConfig, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw the scene and the genre of every artist; the scene of rank r has a share proportional to `r ** -0.3`.

    The scenes are dealt to the genres at random, as evenly as they can be. Without scenes each genre is one.
    """
    scenes = config.scenes or config.genres
    shares = np.arange(1, scenes + 1) ** -_SCENE_EXPONENT
    scene_of = rng.choice(scenes, size=config.artists, p=shares / shares.sum())
    if not config.scenes:
        return scene_of, scene_of
    return scene_of, rng.permutation(np.arange(scenes) % config.genres)[scene_of]


def draw_embeddings(
    config: WorldConfig,
    artist_of: NDArray[np.int32],
    genre_of: NDArray[np.int32],
    scene_of: NDArray[np.int32],
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Draw the tracks' vectors: the sum of a part common to all tracks, and parts of genre, artist, track and scene.

    Each part is a normal vector of `dimensions` with an expected length from the settings. A genre of -1 adds nothing.
    """

    def normal(rows: int, norm: float) -> NDArray[np.float64]:
        return rng.normal(scale=norm / np.sqrt(config.dimensions), size=(rows, config.dimensions))

    common = rng.normal(size=config.dimensions)
    common *= config.common_norm / np.linalg.norm(common)
    # the last row, of zeros, is that of genre -1
    of_genre = np.vstack([normal(int(genre_of.max()) + 1, config.genre_norm), np.zeros(config.dimensions)])
    of_artist = normal(int(artist_of.max()) + 1, config.artist_norm)
    vectors = np.empty((len(artist_of), config.dimensions), dtype=np.float32)
    blocks = [slice(at, min(at + _BLOCK, len(vectors))) for at in range(0, len(vectors), _BLOCK)]
    of_scene = None
    if config.scenes:  # drawn after the tracks' own parts, of which there is no room for all: they are drawn twice
        before = rng.bit_generator.state
        for block in blocks:
            normal(block.stop - block.start, config.own_norm)
        of_scene = normal(int(scene_of.max()) + 1, config.scene_norm)
        rng.bit_generator.state = before
    for block in blocks:
        own = normal(block.stop - block.start, config.own_norm)
        part = common + of_genre[genre_of[block]] + of_artist[artist_of[block]] + own
        vectors[block] = part if of_scene is None else part + of_scene[scene_of[block]]
    return vectors


def draw_durations(tracks: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Draw the tracks' lengths in ms: log-normal with a median of 3 min 40 s, limited to 1 to 10 minutes."""
    seconds = np.exp(rng.normal(np.log(_MEDIAN_DURATION_S), _DURATION_SPREAD, size=tracks))
    return (np.clip(seconds, _SHORTEST_S, _LONGEST_S) * 1000).astype(np.int32)


_MOODS = _words("aggressive calm dark dreamy energetic happy melancholic romantic sad tense uplifting warm")
_COUNTRIES = _words("US GB DE FR BR JP SE RU IT ES CA AU NL MX AR KR NO JM IN NG")
_FIRST_YEAR, _LAST_YEAR, _YEARS_OF_SCENE, _YEARS_OF_ARTIST = 1960, 2025, 6.0, 3.0
_AT_HOME, _IN_ITS_MOOD = 0.7, 0.6


def draw_details(
    config: WorldConfig, artist_of: NDArray[np.int32], scene_of: NDArray[np.int32], rng: np.random.Generator
) -> tuple[Details, ...]:
    """Draw mood, year and country of every track, each of which tells something of the scene, and none of them all.

    A scene has a country, a time and a mood. Seven artists in ten are of its country, an artist's years lie around the
    scene's, and six tracks in ten have its mood; all others are drawn like those of a scene.
    """
    scenes, artists = int(scene_of.max()) + 1, int(artist_of.max()) + 1
    scene_of_artist = np.empty(artists, dtype=np.int64)
    scene_of_artist[artist_of] = scene_of
    shares = 1.0 / np.arange(1, config.countries + 1)

    def countries(count: int) -> NDArray[np.int64]:
        return rng.choice(config.countries, size=count, p=shares / shares.sum())

    country = np.where(rng.random(artists) < _AT_HOME, countries(scenes)[scene_of_artist], countries(artists))
    middle = rng.uniform(_FIRST_YEAR, _LAST_YEAR, size=scenes)[scene_of_artist]
    middle += rng.normal(scale=_YEARS_OF_SCENE, size=artists)
    year = middle[artist_of] + rng.normal(scale=_YEARS_OF_ARTIST, size=len(artist_of))
    years = np.clip(year, _FIRST_YEAR, _LAST_YEAR).astype(np.int64)
    of_scene = rng.integers(len(_MOODS), size=scenes)[scene_of]
    mood = np.where(rng.random(len(scene_of)) < _IN_ITS_MOOD, of_scene, rng.integers(len(_MOODS), size=len(scene_of)))
    return tuple(
        Details(_MOODS[m], y, _numbered(_COUNTRIES, c))
        for m, y, c in zip(mood.tolist(), years.tolist(), country[artist_of].tolist(), strict=True)
    )


def name_albums(artist_of: NDArray[np.int32], rng: np.random.Generator) -> tuple[str, ...]:
    """Name the album of every track; an artist's albums have ten tracks each."""
    order = np.argsort(artist_of, kind="stable")
    sizes = np.bincount(artist_of)
    place = np.empty(len(artist_of), dtype=np.int64)
    place[order] = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    albums_of_artist = -(-sizes // _TRACKS_PER_ALBUM)
    first_album = np.cumsum(albums_of_artist) - albums_of_artist
    names = titles(int(albums_of_artist.sum()), rng)
    return tuple(names[album] for album in (first_album[artist_of] + place // _TRACKS_PER_ALBUM).tolist())


def draw_interests(config: WorldConfig, scene_of: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.int32]:
    """Draw the listeners' interests, (users, interests): popular tracks, more of scenes their community likes.

    Popularity is Zipf–Mandelbrot over a random order of the tracks; a community multiplies it by a weight for each
    scene, a gamma variable of shape 0.3 (a Dirichlet draw, up to its scale). The tracks of a row are distinct.
    """
    ranks = rng.permutation(config.tracks)
    popularity = (ranks + 1 + config.popularity_offset * config.tracks) ** -config.popularity_exponent
    affinity = rng.gamma(_CLUSTER_CONCENTRATION, size=(config.clusters, config.scenes or config.genres)) + 1e-9
    cluster_of = rng.integers(config.clusters, size=config.users)
    interests = np.empty((config.users, config.interests), dtype=np.int32)
    for cluster in range(config.clusters):
        members = np.flatnonzero(cluster_of == cluster)
        cumulative = np.cumsum(popularity * affinity[cluster][scene_of])
        interests[members] = _distinct(cumulative, (len(members), config.interests), rng)
    return interests


def _distinct(cumulative: NDArray[np.float64], shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.int32]:
    """Draw rows of distinct indices; a row with a repetition is drawn again without replacement."""
    drawn = np.searchsorted(cumulative, rng.random(shape) * cumulative[-1], side="right")
    in_order = np.sort(drawn, axis=1)
    for row in np.flatnonzero((in_order[:, 1:] == in_order[:, :-1]).any(axis=1)):
        weights = np.diff(cumulative, prepend=0.0)
        drawn[row] = rng.choice(len(cumulative), size=shape[1], replace=False, p=weights / weights.sum())
    return np.asarray(drawn.astype(np.int32))


def draw_listeners(
    config: WorldConfig, embeddings: NDArray[np.float32], interests: NDArray[np.int32], rng: np.random.Generator
) -> Listeners:
    """Draw the listeners' parameters from the distributions of the course's users.

    `consume_bias` is uniform in [0, bias_max); `consume_sharpness` is u or, as often, 1 / u with u uniform in [1, 2).
    """
    users = len(interests)
    steepness = rng.uniform(1.0, 2.0, size=users)
    return Listeners(
        interests=interests,
        neighbours=neighbours_of_interests(embeddings, interests, config.interest_neighbours),
        interest_neighbours=np.full(users, config.interest_neighbours, dtype=np.int32),
        consume_bias=rng.uniform(0.0, config.bias_max, size=users),
        consume_sharpness=np.where(rng.random(users) < 0.5, steepness, 1.0 / steepness),
        artist_discount_gamma=np.full(users, config.artist_discount_gamma),
        session_budget=np.full(users, config.session_budget, dtype=np.int32),
    )


def neighbours_of_interests(
    embeddings: NDArray[np.float32], interests: NDArray[np.int32], count: int
) -> NDArray[np.int32]:
    """Find the tracks nearest to each listener's interests, shape (users, interests, count)."""
    different, place = np.unique(interests, return_inverse=True)
    return np.asarray(nearest(embeddings, embeddings[different], count)[place.reshape(interests.shape)])
