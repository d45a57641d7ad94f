"""Why did an attempt fail: rules as data (`rules`, `causes`), one engine (`diagnose`). Pure."""
