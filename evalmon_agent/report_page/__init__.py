"""The page report.html: what it says, its plots, and the process that draws them."""
