"""What the pages show, read from the rows in a fixed number of queries; the templates only lay it out."""
