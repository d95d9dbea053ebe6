-- Destinations that a person has paused: nothing is sent to them until they are resumed.

CREATE TABLE pause (
    channel     TEXT NOT NULL,
    destination TEXT NOT NULL,
    since       REAL NOT NULL,
    PRIMARY KEY (channel, destination)
) WITHOUT ROWID;
