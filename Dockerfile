# By its minor version: each build with --pull has Python's and Debian's fixes. Pin a digest where builds must repeat.
FROM python:3.14-slim-trixie AS base
WORKDIR /app

FROM base AS dependencies
COPY requirements.txt ./
# Wheels only: they exist for amd64 and arm64, and nothing is compiled. Bytecode that is never checked against its
# source, here and below: both are read-only from here on.
RUN python -m venv --without-pip .venv \
 && python -m pip --python .venv/bin/python install --no-cache-dir --no-compile --only-binary :all: -r requirements.txt \
 && python -m compileall -q -j 0 --invalidation-mode unchecked-hash .venv

FROM base AS code
COPY wsgi.py ./
COPY authsvc authsvc
COPY migrations migrations
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash . \
# The default database, sqlite:///instance/authsvc.db, is thereby on the volume. Not by AUTHSVC_DATABASE_URL: next to a
# value in the image, AUTHSVC_DATABASE_URL_FILE could not be used.
 && ln -s /data instance

FROM base
# Nothing is installed in a running container: neither pip nor what brings it back.
RUN python -c "import ensurepip, shutil; shutil.rmtree(ensurepip.__path__[0])" \
 && python -m pip uninstall --yes --quiet --root-user-action ignore pip \
 && install -d -m 700 -o 10001 -g 10001 /data
# The dependencies are most of what is added to the base, and change least: an update of the code ships the code.
COPY --from=dependencies /app/.venv .venv
COPY --from=code /app ./
LABEL org.opencontainers.image.title="authsvc" \
      org.opencontainers.image.description="One account store, one login, two wire dialects" \
      org.opencontainers.image.version="1.0.0"
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    AUTHSVC_HOST=0.0.0.0
VOLUME /data
EXPOSE 8000
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('AUTHSVC_PORT') or 8000), timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
CMD ["python", "wsgi.py"]
