# The image: the program in a virtual environment of its own, without pip, compilers or anything that it could write to.
# tests/image/ walks through these steps and runs the result; CI lints them with hadolint.
#
# Pin the base for a release: --build-arg PYTHON=python:3.11-slim-bookworm@sha256:...
ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /src
COPY requirements/build.txt requirements/runtime.txt requirements/aws.txt requirements/
# --build-arg REQUIREMENTS=aws: with botocore, for buckets whose keys come from AWS (docs/s3.md).
ARG REQUIREMENTS=runtime
# What builds stays here: the second environment gets neither pip nor setuptools.
RUN python -m venv /opt/build \
 && /opt/build/bin/python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements/build.txt \
 && python -m venv --without-pip /opt/sidecar \
 && /opt/build/bin/python -m pip --python /opt/sidecar/bin/python install --no-cache-dir --disable-pip-version-check \
    --require-hashes --only-binary :all: -r "requirements/${REQUIREMENTS:-runtime}.txt"
COPY pyproject.toml README.md LICENSE ./
COPY sidecar sidecar
RUN /opt/build/bin/python -m pip wheel --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation \
    --wheel-dir /opt/wheel . \
 && /opt/build/bin/python -m pip --python /opt/sidecar/bin/python install --no-cache-dir --disable-pip-version-check \
    --no-deps --no-index /opt/wheel/*.whl \
 && mkdir /opt/data

FROM ${PYTHON}
ARG REVISION=""
LABEL org.opencontainers.image.title="sidecar" \
      org.opencontainers.image.description="An auth proxy for HTTP stores that know no users" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/sidecar /opt/sidecar
COPY --from=build --chown=65532:65532 /opt/data /var/lib/sidecar
ENV PATH=/opt/sidecar/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SIDECAR_CONFIG=/etc/sidecar/config/sidecar.yaml \
    SIDECAR_REVISION=${REVISION}
# By number: Kubernetes' runAsNonRoot can't judge a name.
USER 65532:65532
WORKDIR /var/lib/sidecar
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
# No shell in between: SIGTERM reaches the program, which drains and ends by itself.
ENTRYPOINT ["sidecar", "serve"]
