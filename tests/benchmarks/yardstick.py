"""The yardstick: a bare FastAPI endpoint that selects one row by its key with asyncpg, and nothing else.

`python tests/benchmarks/yardstick.py PORT` with the database's address in YARDSTICK_DATABASE.
"""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import uvicorn
from fastapi import FastAPI, HTTPException


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["YARDSTICK_DATABASE"], min_size=8, max_size=8) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=_lifespan)


@app.get("/{record_id}")
async def show(record_id: UUID) -> dict[str, Any]:
    """One row, by its key."""
    row = await app.state.pool.fetchrow("SELECT id, level, status, version FROM records WHERE id = $1", record_id)
    if row is None:
        raise HTTPException(404)
    return dict(row)


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning")
