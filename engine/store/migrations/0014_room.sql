-- A delivery is written without an answer, into a page that the next ones fill: when its row grew, the page was split.

-- Zeros, about as many as the row will grow by when the delivery is settled; none from then on.
ALTER TABLE delivery ADD COLUMN room BLOB;
