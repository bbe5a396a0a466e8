-- Services and teams are made by the API. Where notices about their keys go; a person's address stands in `users`.
ALTER TABLE principals ADD COLUMN email TEXT;
-- Lists of one kind, page by page: there may be many people and few services.
CREATE INDEX principals_by_kind ON principals (kind, id);
