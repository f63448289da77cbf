# The engine on CPUs: docker build -t rooms . && docker run --read-only --tmpfs /tmp -v "$PWD:/data" rooms doctor
# Any user may run it, also one without a home, on any host with AVX2: kernels come compiled (decisions/0036).
ARG PYTHON=python:3.12-slim
FROM ${PYTHON} AS build

COPY . /src
WORKDIR /src
RUN pip install --no-cache-dir --constraint constraints.txt . \
    && cd / && python -m engine.pipeline.ship_kernels /kernels \
    && ROOMS_COMPILED_KERNELS=/kernels pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /src

FROM ${PYTHON}

COPY --from=build /wheels /wheels
COPY constraints.txt /wheels
RUN pip install --no-cache-dir --constraint /wheels/constraints.txt /wheels/*.whl && rm -rf /wheels \
    && useradd --no-create-home --uid 10001 rooms
USER 10001
ENV PYTHONDONTWRITEBYTECODE=1
WORKDIR /data
ENTRYPOINT ["rooms"]
CMD ["--help"]
