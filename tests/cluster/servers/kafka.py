"""Kafka: one broker that is its own controller (KRaft)."""

import base64
import logging
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from tests.cluster.servers.installing import find_program, run, servers_folder
from tests.cluster.servers.process import ServerProcess, free_port, is_open

__all__ = ["KafkaServer", "install"]

VERSION = "4.4.0"
POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>brain.tests</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.3</version>
    </dependency>
  </dependencies>
</project>
"""
LOGGING = """\
rootLogger.level=WARN
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %c %m%n
"""
# One broker, and answers within a test's patience.
SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # After a kill the controller believes the old broker to live for this long (9 s as it comes).
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "300",
    "auto.create.topics.enable": "false",
    "log.cleaner.dedupe.buffer.size": "2097152",
    "log.cleaner.backoff.ms": "500",
}
# A small heap, and no compiler that would still be at work when the tests are done.
JVM = ("-Xmx256m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def install() -> Path:
    """Return the folder of the jars; bring them with Maven once, and keep the classes read for quicker starts."""
    folder = servers_folder() / f"kafka-{VERSION}"
    jars = folder / "jars"
    if not jars.is_dir():
        _java()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as made:
            (Path(made) / "pom.xml").write_text(POM)
            brought = Path(made) / "jars"
            copy = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={brought}"]
            run(["mvn", "-q", "-B", "-f", Path(made) / "pom.xml", *copy])
            # What is there is whole.
            brought.rename(jars)
    if not _archive().exists():
        _write_archive()
    return jars


def _archive() -> Path:
    return servers_folder() / f"kafka-{VERSION}" / "classes.jsa"


def _write_archive() -> None:
    """Run a broker once, and have the JVM write what it loaded: later starts take half as long."""
    with tempfile.TemporaryDirectory(dir=_archive().parent) as folder:
        written = Path(folder) / "classes.jsa"
        broker = KafkaServer(Path(folder) / "broker", jvm=[f"-XX:ArchiveClassesAtExit={written}"])
        broker.start()
        broker.stop()
        # A JVM that cannot write one runs without, and so do we.
        if written.exists():
            written.rename(_archive())


def _java() -> Path:
    found = find_program("java")
    if found is None:
        raise SystemExit("Java 17 or newer is needed for Kafka: install it (on Debian: openjdk-17-jdk and maven).")
    return found


class KafkaServer(ServerProcess):
    """A broker that makes no topics by itself.

    Attributes:
        address: `host:port` of the listener for clients.
        port: Its port.

    Args:
        folder: Its own folder.
        settings: Lines of `server.properties` that come to the usual ones or take their place; `{port}` and
            `{controller}` in a value become the two ports.
        format_arguments: What formatting the storage is told besides, such as `--add-scram`.
        jvm: Options of the JVM besides the usual ones.
        client: How the start asks whether the broker answers: what `KafkaAdminClient` is told besides the address.
    """

    def __init__(
        self,
        folder: Path,
        *,
        settings: Mapping[str, str] | None = None,
        format_arguments: Sequence[str] = (),
        jvm: Sequence[str] = (),
        client: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__("kafka", folder)
        self.port, controller = free_port(), free_port()
        self.address = f"127.0.0.1:{self.port}"
        listeners = {
            "listeners": "PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": "PLAINTEXT://127.0.0.1:{port}",
            "controller.quorum.bootstrap.servers": "127.0.0.1:{controller}",
            "log.dirs": str(folder / "data"),
        }
        self._settings = {
            name: value.replace("{port}", str(self.port)).replace("{controller}", str(controller))
            for name, value in (SETTINGS | listeners | dict(settings or {})).items()
        }
        self._format_arguments = tuple(format_arguments)
        self._jvm = tuple(jvm)
        self._client = dict(client or {})

    def prepare(self) -> None:
        """Write the settings and format the storage."""
        super().prepare()
        lines = [f"{name}={value}\n" for name, value in self._settings.items()]
        (self.folder / "server.properties").write_text("".join(lines))
        (self.folder / "log4j2.properties").write_text(LOGGING)
        # A cluster's id: 16 random bytes in 22 characters.
        identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        asked = ["-t", identity, "-c", str(self.folder / "server.properties"), "--standalone", "--ignore-formatted"]
        run([*self._program("kafka.tools.StorageTool"), "format", *asked, *self._format_arguments])

    def command(self) -> Sequence[str | Path]:
        """Return what starts it."""
        return [*self._program("kafka.Kafka", *self._jvm), self.folder / "server.properties"]

    def is_ready(self) -> bool:
        """Return whether the broker tells what topics there are."""
        # The port first: the client waits long between attempts and says so at length.
        if not is_open(self.port):
            return False
        logger = logging.getLogger("kafka")
        before, logger.disabled = logger.disabled, True
        try:
            admin = KafkaAdminClient(bootstrap_servers=self.address, bootstrap_timeout_ms=2000, **self._client)
            try:
                admin.list_topics()
            finally:
                admin.close()
        except KafkaError:
            return False
        finally:
            logger.disabled = before
        return True

    def _program(self, main: str, *options: str) -> list[str | Path]:
        """Return the command of one of Kafka's programs."""
        jars = servers_folder() / f"kafka-{VERSION}" / "jars"
        archive = [f"-XX:SharedArchiveFile={_archive()}"] if _archive().exists() and not options else []
        logs = f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}"
        return [_java(), *JVM, *archive, *options, logs, "-cp", f"{jars}/*", main]
