"""The auditors' pages: one module a page. A view checks who asks and what, calls one service and renders."""
