"""What the pages of learning show: rows with their words and figures, and small charts as coordinates."""
