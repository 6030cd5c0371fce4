"""The functions of `import limbeck`: one call per command, with keywords instead of flags."""
