"""The four signals on one model, and on the reader's own."""
