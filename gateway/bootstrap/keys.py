"""A key made on the machine itself, without the rest of the gateway."""

from gateway.backends.database import KeysTable
from gateway.domain.identity import KeyGrant
from gateway.settings import GatewaySettings
from gateway.usecases.keys import CreateKey
from services.chassis.database import Database, migrate

__all__ = ["create_key"]


async def create_key(settings: GatewaySettings, grant: KeyGrant) -> str:
    """Make an API key and return its secret.

    Raises:
        InvalidInput: The grant is not allowed.
        Unavailable: The database is away.
    """
    database = Database(settings.database_url)
    try:
        await migrate(database, "gateway.migrations")
        create = CreateKey(keys=KeysTable(database), pepper=settings.api_key_secret_file.read_bytes())
        _, secret = await create(grant)
        return secret
    finally:
        await database.close()
