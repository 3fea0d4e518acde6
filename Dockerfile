FROM python:3.13.14-slim-bookworm AS build
WORKDIR /app
COPY requirements.txt ./
# Wheels only: they exist for amd64 and arm64, and nothing is compiled.
RUN python -m venv --without-pip .venv \
 && python -m pip --python .venv/bin/python install --no-cache-dir --no-compile --only-binary :all: -r requirements.txt
COPY wsgi.py ./
COPY authsvc authsvc
COPY migrations migrations
# Bytecode that is never checked against its source: both are read-only from here on.
RUN .venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash . \
# The default database, sqlite:///instance/authsvc.db, is thereby on the volume. Not by AUTHSVC_DATABASE_URL: next to a
# value in the image, AUTHSVC_DATABASE_URL_FILE could not be used.
 && ln -s /data instance

FROM python:3.13.14-slim-bookworm
# Nothing is installed in a running container: neither pip nor what brings it back.
RUN python -c "import ensurepip, shutil; shutil.rmtree(ensurepip.__path__[0])" \
 && python -m pip uninstall --yes --quiet --root-user-action ignore pip \
 && install -d -m 700 -o 10001 -g 10001 /data
WORKDIR /app
COPY --from=build /app ./
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
