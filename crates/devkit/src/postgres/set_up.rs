use std::str::FromStr as _;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, postgres::PgConnectOptions};

use super::{PostgresError, Side};

/// Sets up a side's database as the server's superuser does: roles, their passwords, the database, rights. Doing it again
/// changes nothing but the passwords.
///
/// # Errors
/// When the server cannot be reached, or refuses.
pub async fn set_up(superuser_url: &str, side: Side, passwords: &str) -> Result<(), PostgresError> {
    let superuser = PgConnectOptions::from_str(superuser_url.trim())?;
    let name = side.roles();
    let mut connection = PgConnection::connect_with(&superuser.clone().database("postgres")).await?;
    create_roles(&mut connection).await?;
    connection
        .execute(sqlx::raw_sql(AssertSqlSafe(passwords.to_owned())))
        .await?;
    let there = sqlx::query("SELECT FROM pg_database WHERE datname = $1")
        .bind(name)
        .fetch_optional(&mut connection)
        .await?;
    if there.is_none() {
        create_database(&mut connection, name).await?;
    }
    connection.close().await?;
    grant(&superuser.database(name), side).await
}

/// The roles of deploy/postgres, without passwords.
pub(super) async fn create_roles(connection: &mut PgConnection) -> Result<(), PostgresError> {
    let sql = include_str!("../../../../deploy/postgres/roles.sql");
    connection.execute(sqlx::raw_sql(sql)).await?;
    Ok(())
}

pub(super) async fn create_database(connection: &mut PgConnection, name: &str) -> Result<(), PostgresError> {
    let sql = format!("CREATE DATABASE {name}");
    connection.execute(AssertSqlSafe(sql)).await?;
    Ok(())
}

/// Gives the roles their rights on a side's database.
pub(super) async fn grant(database: &PgConnectOptions, side: Side) -> Result<(), PostgresError> {
    let mut connection = PgConnection::connect_with(database).await?;
    connection.execute(sqlx::raw_sql(side.rights())).await?;
    connection.close().await?;
    Ok(())
}
