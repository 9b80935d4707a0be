"""Which pixels go where: image files, frames in memory, and the model's image."""
