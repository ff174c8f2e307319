-- Columns other than name and record are for people and their queries; goloo reads the record.
-- Of a record that is kept encrypted, they hold only what it takes to see which VMs there are.
CREATE TABLE vms (
  name               TEXT NOT NULL PRIMARY KEY,
  id                 TEXT,
  serial             INTEGER,
  provider           TEXT,
  phase              TEXT,
  operation          TEXT,
  stack              TEXT,
  ip                 TEXT,
  ssh_port           INTEGER,
  fqdn               TEXT,
  created_at         TEXT,
  updated_at         TEXT,
  ends_at            TEXT,
  tags               TEXT,
  created_by         TEXT,
  created_on         TEXT,
  source_config_path TEXT,
  record             NOT NULL -- state.json; text, or a BLOB when it is encrypted
);

CREATE TABLE vm_files (
  vm      TEXT NOT NULL,
  file    TEXT NOT NULL,
  content BLOB NOT NULL,
  PRIMARY KEY (vm, file)
) WITHOUT ROWID;

CREATE TABLE archive (
  archive_id         TEXT NOT NULL PRIMARY KEY,
  deleted_at         TEXT,
  name               TEXT,
  id                 TEXT,
  serial             INTEGER,
  provider           TEXT,
  phase              TEXT,
  operation          TEXT,
  stack              TEXT,
  ip                 TEXT,
  ssh_port           INTEGER,
  fqdn               TEXT,
  created_at         TEXT,
  updated_at         TEXT,
  ends_at            TEXT,
  tags               TEXT,
  created_by         TEXT,
  created_on         TEXT,
  source_config_path TEXT,
  record             NOT NULL
);

CREATE TABLE archive_files (
  vm      TEXT NOT NULL, -- archive_id
  file    TEXT NOT NULL,
  content BLOB NOT NULL,
  PRIMARY KEY (vm, file)
) WITHOUT ROWID;

-- A row stays when its lock is free: the epoch never goes back.
CREATE TABLE locks (
  name       TEXT NOT NULL PRIMARY KEY,
  epoch      INTEGER NOT NULL,
  owner      TEXT,    -- JSON; NULL when the lock is free
  boot       TEXT,    -- which start of the computer the owner's process belongs to
  pid_space  TEXT,    -- and which of its sets of process ids, since a container has its own
  pid        INTEGER,
  pid_start  INTEGER, -- ticks since boot
  lease_end  INTEGER, -- seconds since boot
  unfinished TEXT     -- JSON: whose lock was broken, and wasn't taken since
);

CREATE TABLE store (
  key   TEXT NOT NULL PRIMARY KEY, -- moved_to
  value TEXT NOT NULL
);
