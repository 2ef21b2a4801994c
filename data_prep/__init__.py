"""Raw images or 3D models to TFRecords: `python -m data_prep SOURCE --out DIR`; docs/data.md says how, source by source."""
