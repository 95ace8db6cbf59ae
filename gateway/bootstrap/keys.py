"""What is done on the machine itself, without the rest of the gateway: a key made, a tenant's quota set."""

from gateway.backends.database import KeysTable, UsageTable
from gateway.domain.identity import KeyGrant
from gateway.settings import GatewaySettings
from gateway.usecases.keys import CreateKey
from services.chassis.database import Database, migrate

__all__ = ["create_key", "set_quota"]


async def create_key(settings: GatewaySettings, grant: KeyGrant) -> str:
    """Make an API key and return its secret.

    Raises:
        InvalidInput: The grant is not allowed.
        Unavailable: The database is away.
    """
    database = Database(settings.database_url, access=settings)
    try:
        await migrate(database, "gateway.migrations")
        create = CreateKey(keys=KeysTable(database), pepper=settings.api_key_secret_file.read_bytes())
        _, secret = await create(grant)
        return secret
    finally:
        await database.close()


async def set_quota(settings: GatewaySettings, tenant: str, tokens_per_day: int | None) -> None:
    """Limit a tenant's tokens each day; None lifts the limit.

    Raises:
        Unavailable: The database is away.
    """
    database = Database(settings.database_url, access=settings)
    try:
        await migrate(database, "gateway.migrations")
        await UsageTable(database).set_quota(tenant, tokens_per_day)
    finally:
        await database.close()
