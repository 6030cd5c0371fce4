"""The functions of `import limbeck`: one call per command, with keywords in the place of flags."""
