# The engine on CPUs: docker build -t rooms . && docker run --read-only --tmpfs /tmp -v "$PWD:/data" rooms doctor
# Any user may run it, also one without a home: compiled kernels are kept in /tmp, or not at all.
FROM python:3.12-slim

COPY . /src
RUN pip install --no-cache-dir --constraint /src/constraints.txt /src && rm -rf /src \
    && useradd --no-create-home --uid 10001 rooms
USER 10001
ENV PYTHONDONTWRITEBYTECODE=1
WORKDIR /data
ENTRYPOINT ["rooms"]
CMD ["--help"]
