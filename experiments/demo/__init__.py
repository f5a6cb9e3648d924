"""Tables of docs/demo.md; the demo itself is `drpm.demo`."""
