BEGIN TRANSACTION;
CREATE TABLE audit (
    id          INTEGER PRIMARY KEY,
    at          INTEGER NOT NULL,  -- milliseconds since the epoch: hashed as a whole number
    act         TEXT NOT NULL,
    who         TEXT NOT NULL,
    channel     TEXT NOT NULL,
    message_id  INTEGER,
    delivery_id INTEGER,
    facts       TEXT NOT NULL,     -- JSON: channels, destination, files, numbers, peer
    hash        BLOB NOT NULL
);
CREATE TABLE audit_head (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    purged_id   INTEGER NOT NULL,
    purged_hash BLOB NOT NULL,
    last_id     INTEGER NOT NULL,
    last_hash   BLOB NOT NULL,
    seal        BLOB NOT NULL      -- keyed hash of the columns before; empty before the first entry
);
INSERT INTO "audit_head" VALUES(1,0,X'0000000000000000000000000000000000000000000000000000000000000000',0,X'0000000000000000000000000000000000000000000000000000000000000000',X'');
CREATE TABLE cache (
    id         INTEGER PRIMARY KEY,
    cache      TEXT NOT NULL,
    key        TEXT NOT NULL,
    value      BLOB NOT NULL,  -- sealed
    expires_at REAL NOT NULL,
    UNIQUE (cache, key)
);
INSERT INTO "cache" VALUES(1,'orders','MRN-4711',X'18BDDDB51B5520C51872E4945F6EB09CB32FA6D356A07B4D8784645E8B621CA0319F2BA3E33F950869140A015A',1001000000.0);
INSERT INTO "cache" VALUES(2,'orders',X'4BEDB3A47365',X'C9AC928C2DEC402560C253EAFB071D08C5598DF8C7DA15BC586CC5CC',1001000000.0);
CREATE TABLE delivery (
    id                INTEGER PRIMARY KEY,
    message_id        INTEGER NOT NULL,
    channel           TEXT NOT NULL,
    destination       TEXT NOT NULL,
    key               TEXT NOT NULL,
    state             TEXT NOT NULL,
    cause             TEXT NOT NULL,
    attempts          INTEGER NOT NULL DEFAULT 0,
    next_at           REAL NOT NULL DEFAULT 0,
    control_id        TEXT NOT NULL,
    content_type      TEXT NOT NULL,
    interrupted       TEXT NOT NULL,  -- what `sending` becomes at start
    may_be_duplicated INTEGER NOT NULL DEFAULT 0,
    created_at        REAL NOT NULL,
    sent_at           REAL,
    settled_at        REAL,
    ack               TEXT,  -- of the partner's last answer; NULL when there was none
    condition         TEXT,
    location          TEXT,
    application_error TEXT
);
INSERT INTO "delivery" VALUES(7,6,'lanes','epic','MRN-4711','queued','',0,0.0,'O0','application/hl7-v2','held',0,1000050.0,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "delivery" VALUES(9,8,'lanes','epic','','sending','',1,0.0,'O1','application/hl7-v2','held',0,1000050.0,1000055.0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "delivery" VALUES(11,10,'lanes','epic','MRN-4711','delivered','rejected',2,0.0,'O2','application/hl7-v2','held',0,1000050.0,NULL,1000060.0,'AE','204','PID-3','SLOT_TAKEN');
INSERT INTO "delivery" VALUES(13,12,'lanes','epic','','unknown','',0,0.0,'O3','application/hl7-v2','held',0,1000050.0,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "delivery" VALUES(15,14,'lanes','epic','MRN-4711','held','',0,0.0,'O4','application/hl7-v2','held',0,1000050.0,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "delivery" VALUES(17,16,'lanes','epic','','parked','rejected',2,0.0,'O5','application/hl7-v2','held',0,1000050.0,NULL,1000060.0,'AE','204','PID-3','SLOT_TAKEN');
INSERT INTO "delivery" VALUES(19,18,'lanes','epic','MRN-4711','discarded','rejected',2,0.0,'O6','application/hl7-v2','held',0,1000050.0,NULL,1000060.0,'AE','204','PID-3','SLOT_TAKEN');
CREATE TABLE delivery_answer (
    delivery_id INTEGER PRIMARY KEY,
    answer      BLOB NOT NULL
);
INSERT INTO "delivery_answer" VALUES(11,X'4D53417C41457C4D524E2D34373131');
INSERT INTO "delivery_answer" VALUES(17,X'4D53417C41457C4D524E2D34373131');
INSERT INTO "delivery_answer" VALUES(19,X'4D53417C41457C4D524E2D34373131');
CREATE TABLE delivery_body (
    delivery_id INTEGER PRIMARY KEY,
    sealed      INTEGER NOT NULL,
    body        BLOB NOT NULL  -- no row for an empty one
);
INSERT INTO "delivery_body" VALUES(7,0,X'746F2073656E643A204D53487C5E7E5C267C417C427C437C447C323032367C7C4144545E4130317C43367C507C322E350D5049447C317C7C4D524E2D343731315E5E5E480D');
INSERT INTO "delivery_body" VALUES(9,0,X'746F2073656E643A204D53487C5E7E5C267C417C427C437C447C323032367C7C4144545E4130317C43387C507C322E350D5049447C317C7C4D524E2D343731315E5E5E480D');
INSERT INTO "delivery_body" VALUES(11,0,X'746F2073656E643A204D53487C5E7E5C267C417C427C437C447C323032367C7C4144545E4130317C4331307C507C322E350D5049447C317C7C4D524E2D343731315E5E5E480D');
INSERT INTO "delivery_body" VALUES(13,1,X'DAB7E87F19DF2632409B1A3AA732CD30F524C15CA00A6513DC1578B619E182B004B5E84A3FB02C1100F8272ECE9510652D2924095DDE47CE6EF1AED456D8C1E0788118758F6EE4C88AA054C4C08EFBD65CF6B90F53A77D84520513062F5E57994D56');
INSERT INTO "delivery_body" VALUES(15,0,X'746F2073656E643A204D53487C5E7E5C267C417C427C437C447C323032367C7C4144545E4130317C4331347C507C322E350D5049447C317C7C4D524E2D343731315E5E5E480D');
INSERT INTO "delivery_body" VALUES(17,0,X'746F2073656E643A204D53487C5E7E5C267C417C427C437C447C323032367C7C4144545E4130317C4331367C507C322E350D5049447C317C7C4D524E2D343731315E5E5E480D');
INSERT INTO "delivery_body" VALUES(19,0,X'746F2073656E643A204D53487C5E7E5C267C417C427C437C447C323032367C7C4144545E4130317C4331387C507C322E350D5049447C317C7C4D524E2D343731315E5E5E480D');
CREATE TABLE exchange_key (
    id          INTEGER PRIMARY KEY,
    scope       TEXT NOT NULL,
    key         BLOB NOT NULL,  -- keyed hash
    body_hash   BLOB NOT NULL,
    channel     TEXT NOT NULL,
    message_id  INTEGER NOT NULL,
    delivery_id INTEGER NOT NULL,
    expires_at  REAL NOT NULL,
    status      INTEGER,
    code        TEXT,
    answer      BLOB NOT NULL,  -- sealed
    UNIQUE (scope, key)
);
INSERT INTO "exchange_key" VALUES(1,'booking|app',X'5640802CF7A6020B25835F6183EEF064DD1DAD07A14F87B8CBDC3A07C544C77E',X'68617368','booking',1,2,1001000000.0,201,NULL,X'823DDFC532C3C3E1F703B554CA4A4B7BF65DA8474946544D46216F9BA1B60A4FA230421478B51408FD68134C8122E6');
INSERT INTO "exchange_key" VALUES(2,'booking|app',X'AD051235A3DB16577005B7934D24575853011DFE7DA73D81A037B4CDF9ADE66B',X'68617368','booking',3,4,1001000000.0,NULL,NULL,X'');
CREATE TABLE key_member (
    member BLOB NOT NULL,  -- keyed hash of channel, member and value
    key_id INTEGER NOT NULL,
    PRIMARY KEY (member, key_id)
) WITHOUT ROWID;
INSERT INTO "key_member" VALUES(X'0D0308FFA1E10B283389FC7EE568098779BD281EF29F903E3856648349CF3C66',1);
INSERT INTO "key_member" VALUES(X'0D0308FFA1E10B283389FC7EE568098779BD281EF29F903E3856648349CF3C66',2);
CREATE TABLE message (
    id             INTEGER PRIMARY KEY,
    channel        TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    control_id     TEXT NOT NULL,
    message_type   TEXT NOT NULL,
    key            TEXT NOT NULL,
    state          TEXT NOT NULL,
    cause          TEXT NOT NULL,
    received_at    REAL NOT NULL,
    routed_at      REAL,
    ack            TEXT NOT NULL DEFAULT '',
    origin         TEXT NOT NULL  -- JSON
);
INSERT INTO "message" VALUES(1,'in-received','correlation-received','C1','ADT^A01','MRN-4711','received','',1000001.0,NULL,'','{"source":"rest","peer":"10.0.0.9","api_key":"portal","query":{"mrn":"MRN-4711"},"headers":{"a":"b"}}');
INSERT INTO "message" VALUES(2,'in-routed','correlation-routed','C2','ADT^A01','MRN-4711','routed','',1000002.0,1000050.0,'AA','{"source":"rest","peer":"10.0.0.9","api_key":"portal","query":{"mrn":"MRN-4711"},"headers":{"a":"b"}}');
INSERT INTO "message" VALUES(3,'in-filtered','correlation-filtered',X'4BEDB3A47365','ADT^A01','MRN-4711','filtered','',1000003.0,1000050.0,'AA','{"source":"rest","peer":"10.0.0.9","api_key":"portal","query":{"mrn":"MRN-4711"},"headers":{"a":"b"}}');
INSERT INTO "message" VALUES(4,'in-failed','correlation-failed','C4','ADT^A01','MRN-4711','failed','step lookup: missing',1000004.0,1000050.0,'AE','{"source":"rest","peer":"10.0.0.9","api_key":"portal","query":{"mrn":"MRN-4711"},"headers":{"a":"b"}}');
INSERT INTO "message" VALUES(5,'in-refused','correlation-refused','C5','ADT^A01','MRN-4711','refused','malformed',1000005.0,NULL,'','{"source":"rest","peer":"10.0.0.9","api_key":"portal","query":{"mrn":"MRN-4711"},"headers":{"a":"b"}}');
INSERT INTO "message" VALUES(6,'lanes','lane-queued','C6','','','routed','',1000006.0,1000050.0,'','{}');
INSERT INTO "message" VALUES(8,'lanes','lane-sending','C8','','','routed','',1000008.0,1000050.0,'','{}');
INSERT INTO "message" VALUES(10,'lanes','lane-delivered','C10','','','routed','',1000010.0,1000050.0,'','{}');
INSERT INTO "message" VALUES(12,'lanes','lane-unknown','C12','','','routed','',1000012.0,1000050.0,'','{}');
INSERT INTO "message" VALUES(14,'lanes','lane-held','C14','','','routed','',1000014.0,1000050.0,'','{}');
INSERT INTO "message" VALUES(16,'lanes','lane-parked','C16','','','routed','',1000016.0,1000050.0,'','{}');
INSERT INTO "message" VALUES(18,'lanes','lane-discarded','C18','','','routed','',1000018.0,1000050.0,'','{}');
CREATE TABLE message_body (
    message_id INTEGER PRIMARY KEY,
    body       BLOB NOT NULL  -- no row for an empty one
);
INSERT INTO "message_body" VALUES(1,X'4D53487C5E7E5C267C417C427C437C447C323032367C7C4144545E4130317C43317C507C322E350D5049447C317C7C4D524E2D343731315E5E5E480D');
INSERT INTO "message_body" VALUES(2,X'4D53487C5E7E5C267C417C427C437C447C323032367C7C4144545E4130317C43327C507C322E350D5049447C317C7C4D524E2D343731315E5E5E480D');
INSERT INTO "message_body" VALUES(3,X'4D53487C5E7E5C267C417C427C437C447C323032367C7C4144545E4130317C43337C507C322E350D5049447C317C7C4D524E2D343731315E5E5E480D');
INSERT INTO "message_body" VALUES(4,X'4D53487C5E7E5C267C417C427C437C447C323032367C7C4144545E4130317C43347C507C322E350D5049447C317C7C4D524E2D343731315E5E5E480D');
INSERT INTO "message_body" VALUES(5,X'4D53487C5E7E5C267C417C427C437C447C323032367C7C4144545E4130317C43357C507C322E350D5049447C317C7C4D524E2D343731315E5E5E480D');
INSERT INTO "message_body" VALUES(6,X'4D53487C5E7E5C267C417C427C437C447C323032367C7C4144545E4130317C43367C507C322E350D5049447C317C7C4D524E2D343731315E5E5E480D');
INSERT INTO "message_body" VALUES(8,X'4D53487C5E7E5C267C417C427C437C447C323032367C7C4144545E4130317C43387C507C322E350D5049447C317C7C4D524E2D343731315E5E5E480D');
INSERT INTO "message_body" VALUES(10,X'4D53487C5E7E5C267C417C427C437C447C323032367C7C4144545E4130317C4331307C507C322E350D5049447C317C7C4D524E2D343731315E5E5E480D');
INSERT INTO "message_body" VALUES(12,X'4D53487C5E7E5C267C417C427C437C447C323032367C7C4144545E4130317C4331327C507C322E350D5049447C317C7C4D524E2D343731315E5E5E480D');
INSERT INTO "message_body" VALUES(14,X'4D53487C5E7E5C267C417C427C437C447C323032367C7C4144545E4130317C4331347C507C322E350D5049447C317C7C4D524E2D343731315E5E5E480D');
INSERT INTO "message_body" VALUES(16,X'4D53487C5E7E5C267C417C427C437C447C323032367C7C4144545E4130317C4331367C507C322E350D5049447C317C7C4D524E2D343731315E5E5E480D');
INSERT INTO "message_body" VALUES(18,X'4D53487C5E7E5C267C417C427C437C447C323032367C7C4144545E4130317C4331387C507C322E350D5049447C317C7C4D524E2D343731315E5E5E480D');
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value NOT NULL
) WITHOUT ROWID;
INSERT INTO "meta" VALUES('key_check',X'DF961B8A6CAF57889B126AE2DB5108ED25BE0DD722212B78667DD59DC6153BDD');
INSERT INTO "meta" VALUES('reserved_ids',10000);
INSERT INTO "meta" VALUES('schema_version',2);
CREATE INDEX message_state ON message (channel, state);
CREATE INDEX message_correlation_id ON message (correlation_id);
CREATE INDEX message_control_id ON message (control_id) WHERE control_id <> '';
CREATE INDEX delivery_message_id ON delivery (message_id);
CREATE INDEX delivery_control_id ON delivery (control_id) WHERE control_id <> '';
CREATE INDEX delivery_open ON delivery (channel, destination, state)
    WHERE state IN ('queued', 'sending', 'held', 'parked', 'unknown');
CREATE INDEX delivery_state ON delivery (state, message_id) WHERE state <> 'delivered';
CREATE INDEX cache_expires_at ON cache (expires_at);
CREATE INDEX exchange_key_expires_at ON exchange_key (expires_at);
CREATE INDEX key_member_key_id ON key_member (key_id);
CREATE INDEX audit_act ON audit (act);
CREATE INDEX audit_who ON audit (who);
CREATE INDEX audit_channel ON audit (channel) WHERE channel <> '';
CREATE INDEX audit_message_id ON audit (message_id) WHERE message_id IS NOT NULL;
CREATE TRIGGER audit_append BEFORE INSERT ON audit
WHEN NEW.id IS NOT (SELECT last_id + 1 FROM audit_head)
BEGIN SELECT raise(ABORT, 'the audit trail grows at its end only'); END;
CREATE TRIGGER audit_update BEFORE UPDATE ON audit
BEGIN SELECT raise(ABORT, 'the audit trail is never changed'); END;
CREATE TRIGGER audit_delete BEFORE DELETE ON audit
WHEN OLD.id > (SELECT purged_id FROM audit_head)
BEGIN SELECT raise(ABORT, 'the audit trail loses its purged entries only'); END;
CREATE TRIGGER audit_head_insert BEFORE INSERT ON audit_head
BEGIN SELECT raise(ABORT, 'the audit trail has one head'); END;
CREATE TRIGGER audit_head_delete BEFORE DELETE ON audit_head
BEGIN SELECT raise(ABORT, 'the audit trail keeps its head'); END;
CREATE TRIGGER audit_head_update BEFORE UPDATE ON audit_head
WHEN NEW.last_id < OLD.last_id
    OR NEW.purged_id < OLD.purged_id
    OR NEW.purged_id >= NEW.last_id AND NEW.purged_id > 0
    OR NEW.purged_id > OLD.purged_id AND NEW.purged_hash IS NOT (SELECT hash FROM audit WHERE id = NEW.purged_id)
    OR NEW.last_id > 0 AND NEW.last_hash IS NOT (SELECT hash FROM audit WHERE id = NEW.last_id)
BEGIN SELECT raise(ABORT, 'the head of the audit trail only moves forward'); END;
COMMIT;
